"""The volume holds what is listed, with libraries; its description is exactly four values."""

import json
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from ccinit.formats.disk.verity import RootHash, Salt, VerityParameters
from measured_boot.image.verity import append_hash_tree
from rootfs_builder.file_list import Listed, read_listed
from rootfs_builder.guest_image import debug_tools
from rootfs_builder.guest_image.debug_tools import (
    DESCRIPTION,
    TOOLS_SALT,
    VOLUME,
    DebugToolsBuild,
    digest_tools_inputs,
    encode_description,
    plan_tools,
)
from rootfs_builder.guest_image.report import describe_file
from rootfs_builder.guest_image.root_tree import LIBRARIES
from rootfs_builder.packages.quarry import Quarry
from rootfs_builder.packages.source import PackageSource
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import ToolsTree
from rootfs_builder.workspace import Workspace
from tests.unit.rootfs_builder.elf_files import elf

LIST = Path("rootfs-builder/mkosi/debug-tools.list")


@pytest.fixture
def quarry(tmp_path: Path) -> Quarry:
    root = tmp_path / "quarry"
    program = elf(interpreter=b"/lib64/ld-linux-x86-64.so.2\0")
    library = elf(interpreter=b"", needed=False)
    contents = {
        "usr/bin/strace": program,
        "usr/sbin/tc": program,
        "usr/bin/other": b"not listed",
        "usr/share/terminfo/d/dumb": b"terminal",
        f"{LIBRARIES}/libone.so.1": library,
        f"{LIBRARIES}/libtwo.so.2": library,
        f"{LIBRARIES}/ld-linux-x86-64.so.2": library,
    }
    for name, data in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return Quarry(tree=ToolsTree(root), packages=(), kernel_release="6.12")


def listed(*names: str) -> list[Listed]:
    words = [name.split() for name in names]
    return [Listed(name=word[0], options=tuple(word[1:]), reason="test") for word in words]


def test_volume_holds_what_is_listed_and_what_that_is_linked_with(quarry: Quarry) -> None:
    names = listed("usr/bin/strace", "usr/bin/tc usr/sbin/tc", "usr/share/terminfo/d/dumb")
    tree = plan_tools(quarry, names)
    executable = {path: entry.executable for path, entry in tree.entries.items() if not entry.link}
    assert executable == {
        "etc/group": False,
        "etc/passwd": False,
        "usr/bin/strace": True,
        "usr/bin/tc": True,
        "usr/share/terminfo/d/dumb": False,
        f"{LIBRARIES}/ld-linux-x86-64.so.2": True,
        f"{LIBRARIES}/libone.so.1": False,
        f"{LIBRARIES}/libtwo.so.2": False,
    }
    assert {"dev", "proc", "sys", "mnt"} <= set(tree.empty_folders)


def test_listed_file_that_no_package_has_is_refused(quarry: Quarry) -> None:
    with pytest.raises(ConfigError) as error:
        plan_tools(quarry, listed("usr/bin/gone"))
    assert error.value.reason == "quarry.file"


def test_description_is_what_opens_the_volume() -> None:
    disk = append_hash_tree(b"erofs" * 2000, TOOLS_SALT)
    value = json.loads(encode_description(disk))
    assert set(value) == {"root_hash", "salt", "data_blocks", "size_bytes"}
    parameters = VerityParameters(
        root_hash=RootHash(bytes.fromhex(value["root_hash"])),
        salt=Salt(bytes.fromhex(value["salt"])),
        data_blocks=value["data_blocks"],
    )
    assert parameters == disk.parameters
    assert value["size_bytes"] == len(disk.data) == parameters.device_bytes


def test_every_program_of_the_list_is_below_one_folder() -> None:
    names = [entry.name for entry in read_listed(LIST)]
    assert {"usr/bin/bash", "usr/bin/strace", "usr/bin/ip", "usr/bin/ps"} <= set(names)
    assert {name.split("/")[1] for name in names} == {"bin", "share"}


class Made(Exception):  # noqa: N818 - what the build under test would begin with
    pass


def test_volume_whose_record_is_of_another_form_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(*_details: object) -> None:
        raise Made

    monkeypatch.setattr(debug_tools, "digest_tools_inputs", lambda _workspace: "inputs")
    monkeypatch.setattr(debug_tools, "read_lock", begin)
    workspace = Workspace(tmp_path)
    workspace.staging.mkdir(parents=True)
    tools, progress = ToolsTree(tmp_path / "none"), Progress(name="test")
    packages = PackageSource(
        workspace=workspace, tools=tools, release=False, offline=True, progress=progress
    )
    build = DebugToolsBuild(packages=packages, output=tmp_path)
    for name in (VOLUME, DESCRIPTION):
        (tmp_path / name).write_bytes(b"made")
    files = {name: describe_file(tmp_path / name) for name in (VOLUME, DESCRIPTION)}
    whole = {"inputs": "inputs", "differences": [], "files": files}
    record = workspace.staging / "debug-tools.record.json"
    record.write_text(json.dumps(whole))
    build.run()  # is up to date
    without = ({key: whole[key] for key in whole if key != gone} for gone in ("inputs", "files"))
    for other in ([], "text", whole | {"differences": 5}, whole | {"x": 1}, *without):
        record.write_text(json.dumps(other))
        with pytest.raises(Made):
            build.run()


@pytest.mark.parametrize(
    ("name", "decides"),
    [
        ("rootfs-builder/mkosi/debug-tools.list", True),
        ("rootfs-builder/src/rootfs_builder/guest_image/debug_tools.py", True),
        ("ccinit/formats/disk/verity.py", True),  # makes the hash tree
        ("ccinit/formats/other.py", False),
    ],
)
def test_inputs_change_with_what_decides(tmp_path: Path, name: str, *, decides: bool) -> None:
    module = "rootfs-builder/src/rootfs_builder/guest_image/debug_tools.py"
    others = ("mkosi.conf", "rootfs-builder/packages.lock", "rootfs-builder/mkosi/debug-tools.list")
    packages = ("rootfs-builder/src/rootfs_builder", "ccinit")
    texts = {
        **dict.fromkeys(others, ""),
        **{f"{package}/__init__.py": "" for package in packages},
        "rootfs-builder/mkosi/profiles/test.conf": "",
        "rootfs-builder/src/rootfs_builder/guest_image/__init__.py": "",
        module: "from ccinit.formats.disk.verity import Salt\n",
        "ccinit/formats/__init__.py": "",
        "ccinit/formats/disk/verity.py": "",
        "ccinit/formats/other.py": "",
    }
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    before = digest_tools_inputs(Workspace(tmp_path))
    (tmp_path / name).write_text(f"{texts[name]}# changed\n")
    assert (digest_tools_inputs(Workspace(tmp_path)) != before) is decides
