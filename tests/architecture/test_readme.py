"""README, `make help` and the commands' own `--help` agree."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
MODULES = {
    "guest-owner": "guest_owner.cli",
    "host-runtime": "host_runtime.cli",
    "measured-boot": "measured_boot.cli",
    "rootfs-builder": "rootfs_builder.cli",
}


def commands() -> list[tuple[str, ...]]:
    """Every command line of our tools in the README's shell blocks."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            words = line.split("#")[0].split()
            if words and words[0] in MODULES:
                found.append(tuple(words))
    return found


def test_readme_shows_every_make_target_as_make_help_does() -> None:
    printed = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed in README


def test_readme_uses_every_tool() -> None:
    assert {words[0] for words in commands()} == set(MODULES)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_readme_command_and_its_options_exist(words: tuple[str, ...]) -> None:
    module = MODULES[words[0]]
    names: list[str] = []
    for word in words[1:]:
        if not re.fullmatch(r"[a-z][a-z-]*", word):
            break
        names.append(word)
    assert names, words
    while names:
        printed = subprocess.run(
            [sys.executable, "-c", f"import sys; from {module} import main; sys.exit(main())",
             *names, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if printed.returncode == 0:
            break
        names.pop()  # the last plain word was an argument, not a command
    assert names, printed.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in printed.stdout, f"{option} is not in the help of {' '.join(names)}"
