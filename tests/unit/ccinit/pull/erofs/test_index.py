from pathlib import Path

import pytest

from ccinit.errors import KernelError
from ccinit.pull.erofs.index import compression_arguments, end_with_page, index_arguments


def test_index_is_made_with_fixed_options_over_the_tar() -> None:
    arguments = index_arguments("/s/layer-0.tar", "/s/layer-0.erofs")
    assert arguments[-2:] == ("/s/layer-0.erofs", "/s/layer-0.tar")
    assert {"--tar=i", "--aufs", "--mkfs-time", "-T0"} <= set(arguments)


def test_whole_file_system_is_made_of_what_comes_by_standard_input() -> None:
    arguments = compression_arguments("/s/layer-0.erofs")
    assert [one for one in arguments if not one.startswith("-")] == ["/s/layer-0.erofs"]
    assert {"--tar=f", "--aufs", "--mkfs-time", "-T0"} <= set(arguments)


@pytest.mark.parametrize(("size", "padded"), [(1536, 4096), (4096, 4096), (4608, 8192)])
def test_index_ends_with_a_page(tmp_path: Path, size: int, padded: int) -> None:
    index = tmp_path / "layer-0.erofs"
    with pytest.raises(KernelError):
        end_with_page(str(index))
    index.write_bytes(b"e" * size)
    end_with_page(str(index))
    assert index.read_bytes() == b"e" * size + bytes(padded - size)
