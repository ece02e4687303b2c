from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from host_runtime.programs.tools import Tools


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    program = tmp_path / "usr/sbin/mkfs.fat"
    program.parent.mkdir(parents=True)
    program.touch()
    return tmp_path


def test_program_of_a_tree_runs_by_the_trees_loader(tree: Path) -> None:
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    assert Tools(tree=tree).command("mkfs.fat") == (
        *(f"{tree}/lib64/ld-linux-x86-64.so.2", "--library-path"),
        f"{libraries}:{libraries}/swtpm:{libraries}/systemd",
        *("--argv0", "mkfs.fat", f"{tree}/usr/sbin/mkfs.fat"),
    )


def test_environment_of_a_tree_points_at_its_modules(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "evil.so")
    environment = Tools(tree=tree).environment()
    assert environment["QEMU_MODULE_DIR"] == f"{tree}/usr/lib/x86_64-linux-gnu/qemu"
    assert "LD_PRELOAD" not in environment


def test_missing_program_is_named(tree: Path) -> None:
    with pytest.raises(ConfigError) as error:
        Tools(tree=tree).command("swtpm")
    assert error.value.reason == "tools.program"
    assert "swtpm" in error.value.detail


def test_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(ConfigError) as error:
        Tools().command("no-such-program")
    assert error.value.reason == "tools.program"


def test_installed_program_is_found() -> None:
    assert Tools().command("sh")[0].endswith("/sh")


def test_missing_data_file_is_named(tree: Path) -> None:
    assert Tools(tree=tree).path("usr/sbin/mkfs.fat").exists()
    with pytest.raises(ConfigError) as error:
        Tools(tree=tree).path("usr/share/OVMF/OVMF_CODE_4M.fd")
    assert error.value.reason == "tools.file"
