import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from tests.bench.large_image import FOLDERS, pack, select_files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for folder in FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a").write_bytes(b"x" * 100)
        (tmp_path / folder / "link").symlink_to("a")
    return tmp_path


def test_select_files_stops_before_it_has_too_much(tree: Path) -> None:
    chosen = list(select_files(tree, 250))
    assert sum(path.is_file() and not path.is_symlink() for path in chosen) == 2


def test_pack_gives_equal_layers_for_equal_trees(tree: Path) -> None:
    paths = tuple(select_files(tree, 1000))
    assert pack(tree, paths) == pack(tree, paths)


def test_pack_gives_a_tar_that_its_diff_id_names(tree: Path) -> None:
    paths = tuple(select_files(tree, 1000))
    layer = pack(tree, paths)
    tar = gzip.decompress(layer.blob)
    assert layer.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(tar)) as found:
        assert found.getnames() == [str(path.relative_to(tree)) for path in paths]
        assert found.getmember("usr/lib/link").linkname == "a"
