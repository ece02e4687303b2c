"""Versions that were passed over are those of other suites, and only newer ones."""

from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from rootfs_builder.packages.apt_lists import list_passed_over, read_versions
from rootfs_builder.packages.lock import LockedPackage

MAIN = "mirror_debian_dists_trixie_main_binary-amd64_Packages"
SECURITY = "mirror_security_dists_trixie-security_main_binary-amd64_Packages"


def stanza(name: str, version: str) -> str:
    return f"Package: {name}\nSource: x\nVersion: {version}\nDescription: y\n Version: 99\n\n"


def write_lists(folder: Path) -> None:
    (folder / MAIN).write_text(stanza("a", "1") + stanza("b", "3") + stanza("c", "1"))
    (folder / SECURITY).write_text(stanza("a", "1") + stanza("a", "2") + stanza("b", "2"))
    (folder / "mirror_debian_dists_trixie_InRelease").write_text("Version: 13\n")


def test_versions_are_read_by_name_and_suite(tmp_path: Path) -> None:
    write_lists(tmp_path)
    assert read_versions(tmp_path) == {
        "a": {"trixie": {"1"}, "trixie-security": {"1", "2"}},
        "b": {"trixie": {"3"}, "trixie-security": {"2"}},
        "c": {"trixie": {"1"}},
    }


def test_newer_version_of_another_suite_is_listed_and_nothing_else(tmp_path: Path) -> None:
    write_lists(tmp_path)
    taken = [LockedPackage(name=name, version=v, sha256="0" * 64) for name, v in ("a1", "b3", "c1")]
    lines = list_passed_over(read_versions(tmp_path), taken, "trixie", lambda one, two: one > two)
    assert lines == ("a: 1; trixie-security has 2",)


def test_folder_without_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read_versions(tmp_path)
    assert error.value.reason == "lock.lists"
