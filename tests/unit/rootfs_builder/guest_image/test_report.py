"""The report says what an image is, and notices when it is not that any more."""

import json
from pathlib import Path

import pytest

from measured_boot.image.verity import append_hash_tree
from rootfs_builder.guest_image.report import Origin, encode_report, read_current
from rootfs_builder.packages.lock import LockedPackage

PACKAGES = tuple(
    LockedPackage(name=name, version="1-1", sha256="a" * 64)
    for name in ("linux-image-6.12-cloud-amd64", "systemd-boot-efi")
)


def origin(*differences: str) -> Origin:
    return Origin(
        inputs="inputs",
        kernel_release="6.12-cloud-amd64",
        packages=PACKAGES,
        wheels=("b.whl", "a.whl"),
        differences=differences,
    )


@pytest.fixture
def report(tmp_path: Path) -> Path:
    file = tmp_path / "ccinit-test.efi"
    file.write_bytes(b"efi")
    verity = append_hash_tree(bytes(8192)).parameters
    path = tmp_path / "ccinit-test.json"
    path.write_text(encode_report("test", origin(), verity, {"uki": "line"}, [file]))
    return path


def test_report_has_its_stable_keys(report: Path) -> None:
    content = json.loads(report.read_text())
    assert content.keys() == {
        *("format", "profile", "root_hash", "salt", "blocks", "command_lines", "kernel_release"),
        *("kernel_version", "stub_version", "files", "locked", "differences", "inputs", "wheels"),
        "packages",
    }
    assert content["blocks"] == 2
    assert content["locked"] is True
    assert content["files"]["ccinit-test.efi"]["bytes"] == 3


def test_report_of_other_packages_says_so() -> None:
    verity = append_hash_tree(bytes(8192)).parameters
    text = encode_report("test", origin("a: 1 -> 2"), verity, {}, [])
    assert json.loads(text)["locked"] is False


def test_intact_image_of_the_same_inputs_is_current(report: Path) -> None:
    assert read_current(report, "inputs") is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"files": None},
        {"files": ["ccinit-test.efi"]},
        {"files": {"ccinit-test.efi": "digest"}},
        {"files": {"a\0b": {"sha256": ""}}},
        {"files": {"": {"sha256": ""}}},
        {"differences": None},
        {"format": 2},
    ],
)
def test_report_of_another_version_describes_no_image(
    report: Path, changes: dict[str, object]
) -> None:
    content = json.loads(report.read_text())
    assert read_current(report, "inputs") == content
    left_out = {name for name, value in changes.items() if value is None}
    changed = {name: each for name, each in {**content, **changes}.items() if name not in left_out}
    report.write_text(json.dumps(changed))
    assert read_current(report, "inputs") is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"[" * 100_000])
def test_report_that_is_cut_describes_no_image(report: Path, content: bytes) -> None:
    report.write_bytes(content)
    assert read_current(report, "inputs") is None


def test_other_inputs_are_not_current(report: Path) -> None:
    assert read_current(report, "other") is None


@pytest.mark.parametrize("damage", ["change", "remove", "report"])
def test_damaged_image_is_not_current(report: Path, damage: str) -> None:
    file = report.with_name("ccinit-test.efi")
    match damage:
        case "change":
            file.write_bytes(b"efl")
        case "remove":
            file.unlink()
        case _:
            report.write_text("{")
    assert read_current(report, "inputs") is None
