import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import zstandard

from tests.bench.large_image import FOLDERS, Packing, pack, select_files, split


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


def test_pack_in_zstd_gives_the_same_tar(tree: Path) -> None:
    paths = tuple(select_files(tree, 1000))
    layer = pack(tree, paths, Packing.ZSTD)
    assert layer.media_type.endswith("+zstd")
    assert layer.diff_id == pack(tree, paths).diff_id
    tar = zstandard.ZstdDecompressor().decompressobj().decompress(layer.blob)
    assert layer.diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"


def test_split_leaves_nothing_out(tree: Path) -> None:
    paths = tuple(select_files(tree, 1000))
    parts = list(split(paths, 4))
    assert [path for part in parts for path in part] == list(paths)
    assert {len(part) for part in parts} <= {len(paths) // 4, len(paths) // 4 + 1}
