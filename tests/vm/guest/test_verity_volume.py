"""Read-only volumes under a root hash: the right disk, every block, and no other content."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.errors import VerificationError
from ccinit.formats.disk.verity import BLOCK_BYTES, RootHash, VerityParameters
from ccinit.kernel.block import read_direct
from ccinit.kernel.dm import DmControl
from ccinit.unlock.verity_volume import activate_verity, select_verity_disk
from ccinit.values import replace
from tests.vm.guest.disks import blank, disk, dm_names, drop_caches, flip_bit
from tests.vm.guest.made_elsewhere import VERITY_FILE, make_verity


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerityParameters]:
    """Of a volume with two files that lies on a disk."""
    directory = tmp_path_factory.mktemp("verity")
    found = make_verity(disk("odd"), directory)
    yield found
    blank(disk("odd"))


@contextmanager
def opened(parameters: VerityParameters, target: Path) -> Iterator[None]:
    device = select_verity_disk("model", (disk("small"), disk("odd")), parameters)
    assert device.serial == "odd"
    with DmControl() as control:
        stack = activate_verity(control, "model", device, parameters, str(target))
        try:
            yield
        finally:
            stack.close()
    assert dm_names() == set()


def test_volume_is_read_and_not_written(parameters: VerityParameters, tmp_path: Path) -> None:
    with opened(parameters, tmp_path):
        assert (tmp_path / "model").read_bytes() == VERITY_FILE
        with pytest.raises(OSError, match="Read-only") as error:
            (tmp_path / "name").write_text("another")
        assert error.value.errno == errno.EROFS
        assert os.statvfs(tmp_path).f_flag & os.ST_RDONLY
    with opened(parameters, tmp_path):
        assert (tmp_path / "name").read_text() == "a model"


def test_no_disk_with_the_root_is_refused(parameters: VerityParameters) -> None:
    other = replace(parameters, root_hash=RootHash(bytes(32)))
    for wanted, disks in ((other, (disk("small"), disk("odd"))), (parameters, (disk("small"),))):
        with pytest.raises(VerificationError) as error:
            select_verity_disk("model", disks, wanted)
        assert error.value.reason == "verity.root"


def test_block_that_the_host_changes_is_an_error(
    parameters: VerityParameters, tmp_path: Path
) -> None:
    offset = read_direct(disk("odd").node, 0, parameters.data_bytes).index(VERITY_FILE[:4096])
    offset -= offset % BLOCK_BYTES
    with opened(parameters, tmp_path):
        flip_bit(disk("odd"), offset + 10 * BLOCK_BYTES)
        drop_caches()
        with pytest.raises(OSError, match="Input/output") as error:
            (tmp_path / "model").read_bytes()
        assert error.value.errno == errno.EIO
        assert (tmp_path / "name").read_text() == "a model"
        flip_bit(disk("odd"), offset + 10 * BLOCK_BYTES)
        drop_caches()
        assert (tmp_path / "model").read_bytes() == VERITY_FILE
