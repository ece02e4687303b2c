"""Our reading of real PE files against pefile's, against Debian's signature, and against ukify's.

Needs the tools tree (`CCINIT_TOOLS`, or build/tools), and builds the images if they are not there.
"""

import hashlib
import os
from pathlib import Path

import pefile  # type: ignore[import-untyped]
import pytest

from measured_boot.image.pe import parse_pe
from measured_boot.prediction import UkiBoot, predict
from measured_boot.published.reference_values import reference_values
from measured_boot.tpm.stub import stub_version
from rootfs_builder.tools_tree import ToolsTree
from tests.fakes.published.pe_images import kernel_image

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("images")]  # may have to be built

TREE = Path(os.environ.get("CCINIT_TOOLS", "build/tools"))
EFI = TREE / "usr/lib/systemd/boot/efi"
IMAGES = Path("build/image").absolute()
KERNELS = [IMAGES / f"ccinit-{profile}.vmlinuz" for profile in ("prod", "test")]
UKIS = [path.with_suffix(".efi") for path in KERNELS]
FILES = [
    *(EFI / name for name in ("linuxx64.efi.stub", "systemd-bootx64.efi")),
    *KERNELS,
    *UKIS,
]


def hash_with_pefile(path: Path) -> bytes:
    """Authenticode by pefile's offsets: the file but for three holes, in the order of the file."""
    image = pefile.PE(str(path), fast_load=True)
    data = path.read_bytes()
    checksum = image.OPTIONAL_HEADER.get_field_absolute_offset("CheckSum")
    security = image.OPTIONAL_HEADER.DATA_DIRECTORY[4]
    entry = security.get_field_absolute_offset("VirtualAddress")
    end = security.VirtualAddress if security.Size else len(data)
    return hashlib.sha256(
        data[:checksum] + data[checksum + 4 : entry] + data[entry + 8 : end]
    ).digest()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_authenticode_is_what_pefile_gives(path: Path) -> None:
    assert parse_pe(path.read_bytes()).authenticode() == hash_with_pefile(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_sections_are_what_pefile_gives(path: Path) -> None:
    ours = parse_pe(path.read_bytes()).sections
    theirs = pefile.PE(str(path), fast_load=True).sections
    assert [(row.name, row.virtual_size, row.raw_offset, row.raw_size) for row in ours] == [
        (
            row.Name.rstrip(b"\0").decode(),
            row.Misc_VirtualSize,
            row.PointerToRawData,
            row.SizeOfRawData,
        )
        for row in theirs
    ]


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.name)
def test_authenticode_is_what_debian_has_signed(path: Path) -> None:
    image = parse_pe(path.read_bytes())
    assert image.certificates_size
    assert bytes(image.authenticode()) in image.data[-image.certificates_size :]


@pytest.mark.parametrize("path", UKIS, ids=lambda path: path.name)
def test_predict_built_image_gives_values_of_its_own_profile(path: Path) -> None:
    values = reference_values(predict(UkiBoot(uki=path.read_bytes())), path.stem)
    assert path.stem == f"ccinit-{values.profile.value}"


def test_predict_uki_made_by_ukify_has_the_sections_that_went_in(tmp_path: Path) -> None:
    kernel, initrd = tmp_path / "kernel", tmp_path / "initrd"
    kernel.write_bytes(kernel_image())
    initrd.write_bytes(b"an initrd\n")
    command = ("ukify", "build", f"--output={tmp_path}/uki", f"--linux={kernel}", "--uname=6.12")
    stub = "--stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
    given = (f"--initrd={initrd}", "--cmdline=quiet oops=panic", "--os-release=ID=x")
    ToolsTree(TREE).run((*command, stub, *given), directories=(tmp_path,))
    image = parse_pe((tmp_path / "uki").read_bytes())
    assert bytes(image.section(".linux")) == kernel_image()
    assert bytes(image.section(".initrd")) == b"an initrd\n"
    assert stub_version(image) == predict(UkiBoot(uki=image.data)).platform.stub
    assert image.authenticode() == hash_with_pefile(tmp_path / "uki")
