"""What is made for a container, and the words that boot its guest."""

from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.initdata.document import HEADER_BYTES, decompress_document, parse_header
from host_runtime.oci_runtime.container_disks import make_disks
from host_runtime.oci_runtime.guest_choice import choose_guest
from host_runtime.oci_runtime.operator_config import parse_operator_config
from tests.fakes.documents import POD
from tests.fakes.oci_bundles import INITDATA, encode_annotation, make_document, operator_toml

DOCUMENT = make_document()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A container's, beside the folder that annotations may name."""
    (tmp_path / "allowed").mkdir()
    (tmp_path / "container").mkdir()
    return tmp_path / "container"


def make(folder: Path, document: bytes = DOCUMENT, **chosen: str) -> tuple[str, ...]:
    config = parse_operator_config(operator_toml(folder.parent).encode())
    annotations = {f"org.ccinit.{name}": value for name, value in chosen.items()}
    if "initdata_file" not in chosen:
        annotations[INITDATA] = encode_annotation(document)
    return make_disks(folder, choose_guest(annotations, config), config)


def disks(words: tuple[str, ...]) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == "--disk"]


def test_document_is_carried_with_the_scratch_that_it_declares(folder: Path) -> None:
    words = make(folder)
    image = (folder / "initdata.img").read_bytes()
    member = image[HEADER_BYTES : HEADER_BYTES + parse_header(image)]
    assert decompress_document(member) == DOCUMENT
    assert (folder / "scratch0.img").stat().st_size == 1 << 30
    assert disks(words) == [f"{folder}/initdata.img:ro", f"{folder}/scratch0.img"]
    assert words[:3] == (f"{folder}/guest", "--uki", "/srv/prod.efi")
    assert "--discard-output" in words
    assert words[words.index("--memory") + 1] == "1024"
    assert "--initdata" not in words  # a TPM's guest extends its digest itself


def test_root_that_is_a_disk_comes_first_and_a_tee_is_bound_to_the_document(folder: Path) -> None:
    disk = folder.parent / "allowed/data.img"
    disk.write_bytes(bytes(4096))
    words = make(folder, image="snp", disks=f"{disk}:ro", vcpus="2")
    assert disks(words) == [
        *("/srv/root.erofs:ro", f"{folder}/initdata.img:ro"),
        *(f"{folder}/scratch0.img", f"{disk}:ro"),
    ]
    assert words[words.index("--initdata") + 1] == f"{folder}/initdata.toml"
    assert (folder / "initdata.toml").read_bytes() == DOCUMENT


def test_document_is_read_from_a_file_below_an_allowed_folder(folder: Path) -> None:
    path = folder.parent / "allowed/pod.toml"
    path.write_bytes(DOCUMENT)
    assert make(folder, initdata_file=str(path))
    assert (folder / "initdata.toml").read_bytes() == DOCUMENT


@pytest.mark.parametrize("name", ["initdata_file", "disks"])
def test_link_out_of_what_is_allowed_is_refused(folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    outside.write_bytes(DOCUMENT)
    link = folder.parent / "allowed/link"
    link.symlink_to(outside)
    with pytest.raises(CcinitError) as error:
        make(folder, DOCUMENT, **{name: str(link)})
    assert error.value.reason == "annotation.folder"
    assert list(folder.iterdir()) == []


def test_scratch_beyond_what_is_allowed_is_refused(folder: Path) -> None:
    larger = POD.replace("1073741824", str((2 << 30) + 4096))
    with pytest.raises(CcinitError) as error:
        make(folder, make_document(larger))
    assert error.value.reason == "bundle.scratch"
    assert list(folder.iterdir()) == []
