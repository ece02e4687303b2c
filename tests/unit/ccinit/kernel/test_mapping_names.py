from pathlib import Path

import pytest

from ccinit.errors import KernelError
from ccinit.kernel.mapping_names import find_mapping_name, list_mapping_names


def test_device_has_its_own_mapping_name_or_that_of_what_is_built_on_it(tmp_path: Path) -> None:
    mapped = tmp_path / "class/block/dm-1"
    (mapped / "dm").mkdir(parents=True)
    (mapped / "holders").mkdir()
    (mapped / "dm/name").write_text("ccinit-data\n")
    disk = tmp_path / "dev/block/254:16/holders"
    disk.mkdir(parents=True)
    (disk / "dm-1").symlink_to(mapped)
    assert find_mapping_name("dm-1", str(tmp_path)) == "ccinit-data"
    assert find_mapping_name("254:16", str(tmp_path)) == "ccinit-data"
    for absent in ("dm-2", "254:32", ""):
        assert find_mapping_name(absent, str(tmp_path)) == absent


def test_mappings_are_listed_by_the_kernels_names(tmp_path: Path) -> None:
    for name in ("dm-0", "dm-1", "vda"):
        (tmp_path / f"class/block/{name}/holders").mkdir(parents=True)
    for number in (0, 1):
        (tmp_path / f"class/block/dm-{number}/dm").mkdir()
        (tmp_path / f"class/block/dm-{number}/dm/name").write_text(f"ccinit-{number}\n")
    assert list_mapping_names(str(tmp_path)) == {"dm-0": "ccinit-0", "dm-1": "ccinit-1"}
    with pytest.raises(KernelError) as error:
        list_mapping_names(str(tmp_path / "absent"))
    assert error.value.reason == "kernel.block.list"
