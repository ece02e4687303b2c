"""What an image cannot do with is said before one is made."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard

from ccinit.errors import ConfigError
from rootfs_builder.guest_image.suitability import STUB, require_suitable
from rootfs_builder.packages.quarry import Quarry
from rootfs_builder.tools_tree import ToolsTree
from rootfs_builder.workspace import Workspace
from tests.fakes.published.kernel_images import bzimage, kernel_elf
from tests.fakes.published.pe_images import STUB_MARK, FakePe

LINE = "quiet initcall_blacklist=nvme_init"
MODULES = "usr/lib/modules/6.12"
FILES: Mapping[str, bytes] = {
    str(STUB)[1:]: FakePe(sections={".sdmagic": STUB_MARK}).to_bytes(),
    f"{MODULES}/modules.builtin": b"kernel/drivers/nvme/host/nvme.ko\n",
    f"{MODULES}/modules.dep": b"kernel/drivers/block/loop.ko.xz:\n",
    f"{MODULES}/vmlinuz": bzimage(kernel_elf(("do_one_initcall", "nvme_init"))),
}


@pytest.fixture(autouse=True)
def _zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_tree: ToolsTree, _command: tuple[str, ...], *, input_data: bytes) -> bytes:
        return zstandard.decompress(input_data)

    monkeypatch.setattr(ToolsTree, "run", run)


def require(folder: Path, changes: Mapping[str, bytes] | None = None, line: str = LINE) -> None:
    workspace = Workspace(folder / "repository")
    workspace.lists.mkdir(parents=True)
    (workspace.lists / "modules.list").write_text("loop # reason\n")
    for name, content in {**FILES, **(changes or {})}.items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    quarry = Quarry(tree=ToolsTree(folder / "tree"), packages=(), kernel_release="6.12")
    require_suitable(workspace, quarry, line)


def test_package_set_such_as_the_locked_one_will_do(tmp_path: Path) -> None:
    require(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            str(STUB)[1:],
            FakePe(sections={".sdmagic": STUB_MARK.replace(b"257.13", b"262.1")}).to_bytes(),
            "platform.unknown",
        ),
        (f"{MODULES}/modules.dep", b"", "modules.missing"),
        (f"{MODULES}/modules.builtin", b"kernel/pvpanic.ko\n", "modules.forbidden"),
        (
            f"{MODULES}/vmlinuz",
            bzimage(kernel_elf(("do_one_initcall", "nvme_start"))),
            "cmdline.initcall",
        ),
        (
            f"{MODULES}/vmlinuz",
            bzimage(
                kernel_elf(
                    ("do_one_initcall", "nvme_init"), setups=("console=", "initcall_blacklist=")
                )
            ),
            "cmdline.word",
        ),
    ],
)
def test_package_set_of_which_no_image_is_made_is_refused(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        require(tmp_path, {name: content})
    assert error.value.reason == reason


def test_unknown_stub_is_told_with_what_can_be_done(tmp_path: Path) -> None:
    mark = STUB_MARK.replace(b"257.13", b"262.1")
    with pytest.raises(ConfigError, match=r"systemd-stub 262\.1") as error:
        require(tmp_path, {str(STUB)[1:]: FakePe(sections={".sdmagic": mark}).to_bytes()})
    path, _, title = error.value.detail.rpartition("; ")[2].partition(', "')
    assert f"## {title.removesuffix(chr(34))}\n" in Path(path).read_text()
