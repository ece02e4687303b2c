"""The kernel proper is compressed, in a file with a program around it."""

import pytest
import zstandard

from ccinit.errors import ConfigError
from rootfs_builder.guest_image.kernel_payload import find_payload
from tests.fakes.published.kernel_images import bzimage

KERNEL = bzimage(b"code")


def test_what_was_compressed_is_found() -> None:
    assert zstandard.decompress(find_payload(KERNEL)) == b"code"


@pytest.mark.parametrize(
    ("kernel", "detail"),
    [
        (bzimage(b"code", packed=b"\x1f\x8bgzip"), "CONFIG_KERNEL_ZSTD"),
        (b"MZ" + bytes(4096), "not a bzImage"),
        (KERNEL[:0x24C], "not a bzImage"),
    ],
)
def test_kernel_that_cannot_be_unpacked_is_refused(kernel: bytes, detail: str) -> None:
    with pytest.raises(ConfigError, match=detail) as error:
        find_payload(kernel)
    assert error.value.reason == "kernel.functions"
