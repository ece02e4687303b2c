"""What is made for a container, and the words that boot its guest."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.initdata.document import HEADER_BYTES, decompress_document, parse_header
from host_runtime.oci_runtime.container_disks import MadeDisks, make_disks
from host_runtime.oci_runtime.guest_choice import choose_guest
from host_runtime.oci_runtime.operator_config import parse_operator_config
from tests.fakes.documents.guest import POD
from tests.fakes.documents.oci_bundles import (
    INITDATA,
    encode_annotation,
    make_document,
    operator_toml,
)
from tests.fakes.machine.scarcity import room_for

DOCUMENT = make_document()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A container's, beside the folder that annotations may name."""
    for name in ("allowed", "scratch", "container"):
        (tmp_path / name).mkdir()
    return tmp_path / "container"


@contextmanager
def make(folder: Path, document: bytes = DOCUMENT, **chosen: str) -> Iterator[MadeDisks]:
    config = parse_operator_config(operator_toml(folder.parent).encode())
    annotations = {f"org.ccinit.{name}": value for name, value in chosen.items()}
    if "initdata_file" not in chosen:
        annotations[INITDATA] = encode_annotation(document)
    with make_disks(folder, choose_guest(annotations, config), config) as made:
        yield made


def disks(words: Sequence[str]) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == "--disk"]


def test_document_is_carried_with_the_scratch_that_it_declares(folder: Path) -> None:
    with make(folder) as made:
        (scratch,) = made.descriptors
        assert os.fstat(scratch).st_size == 1 << 30
        assert os.fstat(scratch).st_nlink == 0  # so nothing is left of it, whoever is killed when
        assert disks(made.arguments) == [f"{folder}/initdata.img:ro", f"/proc/self/fd/{scratch}"]
    image = (folder / "initdata.img").read_bytes()
    member = image[HEADER_BYTES : HEADER_BYTES + parse_header(image)]
    assert decompress_document(member) == DOCUMENT
    assert list((folder.parent / "scratch").iterdir()) == []
    words = made.arguments
    assert words[:3] == (f"{folder}/guest", "--uki", "/srv/prod.efi")
    assert "--discard-output" in words
    assert words[words.index("--memory") + 1] == "1024"
    assert "--initdata" not in words  # a TPM's guest extends its digest itself


def test_root_that_is_a_disk_comes_first_and_a_tee_is_bound_to_the_document(folder: Path) -> None:
    disk = folder.parent / "allowed/data.img"
    disk.write_bytes(bytes(4096))
    with make(folder, image="snp", disks=f"{disk}:ro", vcpus="2") as made:
        scratch, data = made.descriptors
        assert os.path.samestat(os.fstat(data), disk.stat())
    assert disks(made.arguments) == [
        *("/srv/root.erofs:ro", f"{folder}/initdata.img:ro"),
        *(f"/proc/self/fd/{scratch}", f"/proc/self/fd/{data}:ro"),
    ]
    words = made.arguments
    assert words[words.index("--initdata") + 1] == f"{folder}/initdata.toml"
    assert (folder / "initdata.toml").read_bytes() == DOCUMENT


def test_document_is_read_from_a_file_below_an_allowed_folder(folder: Path) -> None:
    path = folder.parent / "allowed/pod.toml"
    path.write_bytes(DOCUMENT)
    with make(folder, initdata_file=str(path)):
        assert (folder / "initdata.toml").read_bytes() == DOCUMENT


def test_file_that_gives_way_to_a_link_after_the_look_at_it_is_still_the_one_used(
    folder: Path,
) -> None:
    secret, disk = folder.parent / "secret", folder.parent / "allowed/data.img"
    secret.write_bytes(b"of the host")
    disk.write_bytes(b"of the container")
    with make(folder, disks=str(disk)) as made:
        disk.unlink()
        disk.symlink_to(secret)
        assert Path(disks(made.arguments)[-1]).read_bytes() == b"of the container"


@pytest.mark.parametrize("name", ["initdata_file", "disks"])
def test_what_is_no_regular_file_is_refused_and_not_opened(folder: Path, name: str) -> None:
    pipe = folder.parent / "allowed/pipe"
    os.mkfifo(pipe)  # whoever opened it to read would wait for a writer
    with pytest.raises(CcinitError) as error, make(folder, DOCUMENT, **{name: str(pipe)}):
        pass
    assert error.value.reason == "annotation.file"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["initdata_file", "disks"])
def test_link_out_of_what_is_allowed_is_refused(folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    outside.write_bytes(DOCUMENT)
    link = folder.parent / "allowed/link"
    link.symlink_to(outside)
    with pytest.raises(CcinitError) as error, make(folder, DOCUMENT, **{name: str(link)}):
        pass
    assert error.value.reason == "annotation.folder"
    assert list(folder.iterdir()) == []


def test_scratch_beyond_what_is_allowed_is_refused(folder: Path) -> None:
    larger = POD.replace("1073741824", str((2 << 30) + 4096))
    with pytest.raises(CcinitError) as error, make(folder, make_document(larger)):
        pass
    assert error.value.reason == "bundle.scratch"
    assert list(folder.iterdir()) == []


def test_scratch_that_its_folder_cannot_have_is_refused_with_its_size(folder: Path) -> None:
    with (
        room_for(1 << 24),
        pytest.raises(CcinitError, match="no scratch of 1073741824") as error,
        make(folder),
    ):
        pass
    assert error.value.reason == "bundle.scratch"
    assert str(folder.parent / "scratch") in error.value.detail
