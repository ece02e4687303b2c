"""dm-verity devices as stage 0 makes them, on a loop device."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ccinit.errors import KernelError
from ccinit.formats.disk.verity import (
    RootHash,
    Salt,
    VerityParameters,
    build_hash_tree,
    encode_table,
)
from ccinit.kernel.block import SECTOR_BYTES, read_direct
from ccinit.kernel.dm import DmControl, DmTarget
from ccinit.kernel.loop import open_loop

BLOCKS = 300
DATA = b"".join(b"%4096d" % index for index in range(BLOCKS))
SALT = Salt(bytes(range(32)))


@contextmanager
def open_verity(image: Path, parameters: VerityParameters) -> Iterator[str]:
    """Of a file or a disk; without the panic options, which would end this guest."""
    with ExitStack() as stack:
        control = stack.enter_context(DmControl())
        is_disk = image.is_block_device()
        source = str(image) if is_disk else stack.enter_context(open_loop(str(image))).node
        device = control.create("test-verity")
        try:
            target = DmTarget(
                length_sectors=parameters.data_bytes // SECTOR_BYTES,
                kind="verity",
                parameters=encode_table(parameters, source, ()),
            )
            control.load(device, (target,), read_only=True)
            control.resume(device, read_only=True)
            yield device.node
        finally:
            control.remove(device)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    _, tree = build_hash_tree([DATA], SALT)
    path = tmp_path / "image"
    path.write_bytes(DATA + tree)
    return path


PARAMETERS, _ = build_hash_tree([DATA], SALT)


def test_verity_with_good_root_reads_every_block(image: Path) -> None:
    with open_verity(image, PARAMETERS) as node:
        assert read_direct(node, 0, len(DATA)) == DATA


def test_verity_with_wrong_root_is_an_error(image: Path) -> None:
    wrong = VerityParameters(
        root_hash=RootHash(bytes(32)), salt=SALT, data_blocks=PARAMETERS.data_blocks
    )
    with open_verity(image, wrong) as node, pytest.raises(KernelError) as error:
        read_direct(node, 0, 4096)
    assert error.value.errno == errno.EIO


def test_r12_verity_with_flipped_bit_fails_in_that_block_only(image: Path) -> None:
    with image.open("r+b") as file:
        file.seek(200 * 4096 + 17)
        file.write(b"\xff")
    with open_verity(image, PARAMETERS) as node:
        with pytest.raises(KernelError) as error:
            read_direct(node, 200 * 4096, 4096)
        assert error.value.errno == errno.EIO
        assert read_direct(node, 201 * 4096, 4096) == DATA[201 * 4096 : 202 * 4096]


def test_r12_r13_r14_verity_with_panic_options_is_accepted_by_the_kernel(image: Path) -> None:
    with open_loop(str(image)) as loop, DmControl() as control:
        device = control.create("test-panic")
        target = DmTarget(
            length_sectors=PARAMETERS.data_bytes // SECTOR_BYTES,
            kind="verity",
            parameters=encode_table(PARAMETERS, loop.node),
        )
        control.load(device, (target,), read_only=True)
        control.resume(device, read_only=True)
        (table,) = control.read_table(device)
        control.remove(device)
    assert "panic_on_corruption" in table.parameters
    assert "panic_on_error" in table.parameters
