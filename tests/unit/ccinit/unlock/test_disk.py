"""The refusals that every disk of a volume can meet, each beside the disk that is accepted."""

import pytest

from ccinit.errors import ConfigError, VerificationError
from ccinit.kernel.block import BlockDevice
from ccinit.unlock import disk as module
from ccinit.unlock.disk import check_disk
from ccinit.values import replace

DISK = BlockDevice(
    name="vdb", number="254:16", size_bytes=8192, read_only=False, serial="", holders=()
)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the driver says now, by node."""
    found = {DISK.node: DISK.size_bytes}
    monkeypatch.setattr(module, "read_size_bytes", found.__getitem__)
    check_disk("data", DISK)
    return found


def test_disk_that_cannot_be_written_is_refused_by_the_name_of_its_volume(
    sizes: dict[str, int],
) -> None:
    sizes.clear()  # it is not even opened
    with pytest.raises(ConfigError) as error:
        check_disk("data", replace(DISK, read_only=True))
    assert (error.value.reason, error.value.detail) == ("disk.read_only", "data cannot be written")


@pytest.mark.parametrize("size_bytes", [0, -4096, 4097, 512])
def test_disk_of_partial_blocks_is_refused(sizes: dict[str, int], size_bytes: int) -> None:
    sizes[DISK.node] = size_bytes
    with pytest.raises(ConfigError) as error:
        check_disk("data", replace(DISK, size_bytes=size_bytes))
    assert error.value.reason == "disk.size"
    assert error.value.detail == f"data has {size_bytes} bytes: not whole blocks"


@pytest.mark.parametrize("size_bytes", [4096, 12288])
def test_disk_of_another_size_than_it_was_listed_with_is_refused(
    sizes: dict[str, int], size_bytes: int
) -> None:
    sizes[DISK.node] = size_bytes
    with pytest.raises(VerificationError) as error:
        check_disk("data", DISK)
    assert error.value.reason == "disk.changed"
