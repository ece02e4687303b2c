"""What is no UKI is refused as what it is."""

from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from host_runtime.machine.uki_file import require_uki
from tests.fakes.published.pe_images import FakePe, kernel_image, uki_image

KERNEL = kernel_image()
LINUX = KERNEL[:0x202] + b"HdrS" + KERNEL[0x206:]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"nothing that starts", "not an EFI program: no DOS header"),
        (b"\x7fELF" + bytes(600), "an ELF program"),
        (b"070701" + bytes(600), "an initrd"),
        (b"\x1f\x8b" + bytes(600), "gzip data"),
        (b'{"format": 1}', "JSON; a built image's report"),
        (bytes(510) + b"\x55\xaa", "a disk image"),
        (LINUX, "a kernel, which --kernel takes with an --initrd"),
        (LINUX[:0x300], "a kernel, which --kernel takes"),
        (FakePe().to_bytes(), "an EFI program without .linux, .initrd, .cmdline"),
        (uki_image({".initrd": None}), "an EFI program without .initrd"),
        (uki_image({".cmdline": b""}), "an EFI program without .cmdline"),
        (uki_image()[:-600], "bytes at"),
    ],
)
def test_what_it_is_instead_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "image.efi"
    path.write_bytes(uki_image())
    require_uki(path)
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        require_uki(path)
    assert error.value.reason == "boot.uki"
    assert error.value.detail.startswith(f"{path} is not a UKI: ")
    assert words in error.value.detail
