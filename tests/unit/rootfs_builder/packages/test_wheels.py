"""Wheels are exactly the locked ones, and only importable files leave them."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from ccinit.errors import ConfigError, FormatError
from rootfs_builder.packages import wheels
from rootfs_builder.packages.wheels import (
    Requirement,
    describe_wheel,
    download_command,
    encode_requirements,
    fetch_wheels,
    parse_requirements,
    unpack_wheels,
)
from tests.unit.rootfs_builder.elf_files import elf
from tests.unit.rootfs_builder.packages.wheel_files import wheel

REQUIREMENTS = (
    Requirement(name="b-c", version="2.0", sha256=frozenset({"b" * 64, "c" * 64})),
    Requirement(name="a", version="1", sha256=frozenset({"a" * 64})),
)


def test_requirements_read_back_sorted() -> None:
    text = "# heading\n" + encode_requirements(REQUIREMENTS)
    assert parse_requirements(text) == tuple(sorted(REQUIREMENTS, key=lambda entry: entry.name))


@pytest.mark.parametrize(
    "line", ["a", "a>=1 --hash=sha256:" + "a" * 64, "a==1", "a==1 --hash=md5:1"]
)
def test_requirement_without_pin_or_hash_is_refused(line: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_requirements(line)
    assert error.value.reason == "requirements.line"


def test_repository_locks_every_package_of_the_guest() -> None:
    locked = {
        entry.name for entry in parse_requirements(Path("requirements/guest.txt").read_text())
    }
    wanted = {
        line.split("#")[0].strip()
        for line in Path("requirements/guest.in").read_text().splitlines()
    }
    assert locked == wanted - {""}


def test_download_is_for_the_guest_and_never_builds() -> None:
    command = download_command(Path("guest.txt"), Path("cache"))
    assert {"--no-deps", "--only-binary=:all:"} <= set(command)
    assert command[command.index("--python-version") + 1] == "3.13"
    assert command[:4] == (sys.executable, "-m", "pip", "download")
    assert command[-4:] == ("--dest", "cache", "--requirement", "guest.txt")
    platforms = [after for word, after in pairwise(command) if word == "--platform"]
    assert platforms
    assert all(platform.endswith("_x86_64") for platform in platforms)


def test_cached_wheel_is_found_by_its_digest_alone(tmp_path: Path) -> None:
    path = wheel(tmp_path, "a-1-py3-none-any.whl", {"a.py": b""})
    requirement = describe_wheel(path)
    assert (requirement.name, requirement.version) == ("a", "1")
    file = tmp_path / "guest.txt"
    file.write_text(encode_requirements((requirement,)))
    assert fetch_wheels(file, tmp_path) == (path,)


def test_wheel_that_pip_brings_is_taken_by_its_digest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, cache = "a-1-py3-none-any.whl", tmp_path / "cache"
    cache.mkdir()
    locked = describe_wheel(wheel(tmp_path, name, {"a.py": b""}))
    file = tmp_path / "guest.txt"
    file.write_text(encode_requirements((locked,)))
    asked: list[object] = []

    def bring(content: bytes) -> Callable[[Sequence[str]], None]:
        def run_pip(command: Sequence[str]) -> None:
            asked.append(command)
            wheel(cache, name, {"a.py": content})

        return run_pip

    monkeypatch.setattr(wheels, "run_pip", bring(b"forged"))
    with pytest.raises(ConfigError, match="pip brought no locked one") as error:
        fetch_wheels(file, cache)
    assert error.value.reason == "wheels.missing"
    monkeypatch.setattr(wheels, "run_pip", bring(b""))
    assert fetch_wheels(file, cache) == (cache / name,)
    assert asked == [(*download_command(file, cache), "--require-hashes")] * 2


@pytest.mark.parametrize("name", ["a-1-py3-none-any.zip", "a.whl"])
def test_file_that_is_no_wheel_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError) as error:
        describe_wheel(wheel(tmp_path, name, {}))
    assert error.value.reason == "wheels.name"


def test_offline_build_asks_nobody_for_a_wheel_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "guest.txt"
    file.write_text(encode_requirements(REQUIREMENTS))
    asked: list[object] = []
    monkeypatch.setattr(wheels, "run_pip", asked.append)
    with pytest.raises(ConfigError) as error:
        fetch_wheels(file, tmp_path, offline=True)
    assert (error.value.reason, asked) == ("wheels.missing", [])
    assert "without --offline" in error.value.detail
    with pytest.raises(ConfigError):
        fetch_wheels(file, tmp_path)
    assert len(asked) == 1


def test_unpacked_wheel_has_modules_and_stripped_libraries_only(tmp_path: Path) -> None:
    library = elf()
    path = wheel(
        tmp_path,
        "a-1-py3-none-any.whl",
        {
            "a/__init__.py": b"x = 1\n",
            "a/core.so": library,
            "a/data.pem": b"-----BEGIN",
            "a-1.dist-info/METADATA": b"",
            "a-1.dist-info/x.py": b"",
        },
    )
    unpack_wheels((path,), tmp_path / "site")
    files = {
        str(file.relative_to(tmp_path / "site")): len(file.read_bytes())
        for file in (tmp_path / "site").rglob("*")
        if file.is_file()
    }
    assert files == {"a/__init__.py": 6, "a/core.so": len(library) - 50}


def test_wheel_that_points_outside_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path, "a-1-py3-none-any.whl", {"../a.py": b""})
    with pytest.raises(FormatError) as error:
        unpack_wheels((path,), tmp_path / "site")
    assert error.value.reason == "wheels.path"
    assert not (tmp_path / "a.py").exists()


def test_digest_of_a_wheel_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = wheel(tmp_path, "a_b-1.2-py3-none-any.whl", {})
    requirement = describe_wheel(path)
    assert requirement.name == "a-b"
    assert requirement.sha256 == {hashlib.sha256(path.read_bytes()).hexdigest()}
