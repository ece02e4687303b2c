"""What mkosi is told: the host's archives, keys and pins, and those of a project besides."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from rootfs_builder.apt_sources import AptSource, parse_deb822
from rootfs_builder.packages import mkosi as mkosi_module
from rootfs_builder.packages.lock import (
    encode_apt_pins,
)
from rootfs_builder.packages.mkosi import prepare_sandbox, read_command_line
from rootfs_builder.tools_tree import ToolsTree
from rootfs_builder.workspace import Workspace
from tests.unit.rootfs_builder.packages.small_lock import LOCK


def test_sandbox_has_the_hosts_archives_keys_and_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mkosi_module, "read_apt_configuration", lambda: "Acquire::Retries 3;\n")
    keys = {"http://m.example/bookworm": b"key", "http://m.example/bookworm-security": b"other"}
    host = []
    for uri, key in keys.items():
        keyring = tmp_path / uri.rpartition("/")[2] / "mirror.gpg"  # one name in two folders
        keyring.parent.mkdir()
        keyring.write_bytes(key)
        host.append(
            AptSource(uri=uri, suites=(keyring.parent.name,), components=("main",),
                      signed_by=str(keyring))
        )  # fmt: skip
    prepare_sandbox(tmp_path / "sandbox", host, encode_apt_pins(LOCK))
    apt = tmp_path / "sandbox/etc/apt"
    sources = parse_deb822((apt / "sources.list.d/mkosi.sources").read_text())
    assert [source.uri for source in sources] == [source.uri for source in host]
    seen = {source.uri: Path(source.signed_by) for source in sources}
    assert {path.parent for path in seen.values()} == {Path("/etc/apt/keyrings")}
    assert {path.suffix for path in seen.values()} == {".gpg"}
    assert {uri: (apt / "keyrings" / path.name).read_bytes() for uri, path in seen.items()} == keys
    assert (apt / "apt.conf.d/50host").read_text() == "Acquire::Retries 3;\n"
    assert (apt / "preferences.d/ccinit-lock").read_text() == encode_apt_pins(LOCK)
    assert "Download" not in "".join(path.read_text() for path in (apt / "apt.conf.d").iterdir())
    prepare_sandbox(tmp_path / "sandbox", host, "", offline=True)
    assert (apt / "apt.conf.d/60offline").read_text() == 'APT::Get::Download "false";\n'


def sandbox_trees(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    commands: list[Sequence[str]] = []

    def run(_self: ToolsTree, command: Sequence[str], **_: object) -> bytes:
        commands.append(command)
        return b'{"Images": [{"KernelCommandLine": ["quiet"]}]}'

    with monkeypatch.context() as patch:
        patch.setattr(ToolsTree, "run", run)
        assert read_command_line(workspace, ToolsTree(Path("none")), "prod") == "quiet"
    given = [word for word in commands[0] if word.startswith("--sandbox-tree=")]
    assert given[0] == "--sandbox-tree="  # nothing that a configuration names by itself
    return [word.removeprefix("--sandbox-tree=") for word in given[1:]]


def test_archives_of_a_project_come_besides_the_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, project = tmp_path / "repository", tmp_path / "project"
    own = Workspace(repository)
    (repository / "mkosi.sandbox").mkdir(parents=True)
    assert sandbox_trees(own, monkeypatch) == ["/repository/build/mkosi/sandbox"]
    with_project = Workspace(repository, project)
    hosts = "/repository/project/build/mkosi/sandbox"
    assert sandbox_trees(with_project, monkeypatch) == [hosts]
    (project / "mkosi.sandbox").mkdir()
    assert sandbox_trees(with_project, monkeypatch) == [hosts, "/repository/project/mkosi.sandbox"]
