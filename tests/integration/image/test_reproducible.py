"""Two builds under different circumstances are the same bytes, and a difference has a name.

The first is that of build/image; the second is made elsewhere, offline, of the same downloads.
Needs root and the tools tree.
"""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from measured_boot.image.verity import append_hash_tree
from rootfs_builder.guest_image.difference import BUILDERS_OWN, explain_folders
from rootfs_builder.guest_image.erofs_reader import data_bytes, read_erofs
from rootfs_builder.tools_tree import ToolsTree
from tests.integration.image.second_build import build_elsewhere, copy_repository

pytestmark = pytest.mark.timeout(1800)  # the first test may have to build twice

TOOLS = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute())
OPEN = partial(read_erofs, TOOLS)
ROOT_DISK = "ccinit-prod.root.erofs"


@pytest.mark.long
def test_second_build_elsewhere_is_the_same_bytes(images: Path, tmp_path: Path) -> None:
    repository = tmp_path / "a quite different path"
    copy_repository(repository)
    second = tmp_path / "second"
    build_elsewhere(repository, second, TOOLS.path)
    assert explain_folders(images, second, OPEN) == ""
    # The same by the digests that are published, too: not only to our own eyes.
    assert (second / "image-id").read_text() == (images / "image-id").read_text()
    assert (second / "SHA256SUMS").read_text() == (images / "SHA256SUMS").read_text()
    assert {path.name for path in second.iterdir()} > BUILDERS_OWN
    shutil.rmtree(repository)


def test_difference_forced_into_a_real_root_is_named(images: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(images, changed)
    data = (images / ROOT_DISK).read_bytes()
    tree = tmp_path / "tree"
    extract = ("fsck.erofs", f"--extract={tree}", "--preserve", images / ROOT_DISK)
    TOOLS.run(extract, directories=(tmp_path, images))
    (tree / "etc/hostname").write_text("ccinjt\n")
    image = tmp_path / "image"
    pack = ("mkfs.erofs", "--quiet", "--all-root", "-T0", image, tree)
    TOOLS.run(pack, directories=(tmp_path,))
    (changed / ROOT_DISK).write_bytes(append_hash_tree(image.read_bytes()).data)
    assert explain_folders(images, changed, OPEN) == (
        f"{ROOT_DISK}: erofs file etc/hostname: line 1: 'it\\n' and 'jt\\n'"
    )
    (changed / ROOT_DISK).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    offset = len(data) - data_bytes(data) - 1
    assert explain_folders(images, changed, OPEN).startswith(
        f"{ROOT_DISK}: hash tree: byte {offset}: "
    )
