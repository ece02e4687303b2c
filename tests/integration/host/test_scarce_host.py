"""A host whose store finds no room, or cannot be written any more, while machines run.

As `test_oci_runtime`: needs root and the tools tree; the machines run nothing.
"""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.host.bare_engine import Engine, reap

PAGE_BYTES = 4096
PAGES = 64


@contextmanager
def mounted(place: Path, *words: str) -> Iterator[None]:
    """Mount there, in the namespace of these tests."""
    subprocess.run(("mount", *words, place), check=True)
    try:
        yield
    finally:
        subprocess.run(("umount", place), check=True)


def test_guest_can_be_ended_though_its_store_has_become_read_only(engine: Engine) -> None:
    """As a file system does that has found an error in itself."""
    pid = engine.create("a")
    state = engine.folder / "state"
    with mounted(state, "--bind", str(state)):
        subprocess.run(("mount", "-o", "remount,bind,ro", state), check=True)
        assert engine.run("create", "--bundle", str(engine.bundle()), "b") == 1
        assert "Read-only file system" in engine.said()
        assert engine.state("a")["status"] == "created"
        engine.done("kill", "a", "KILL")
        assert reap(pid) == -signal.SIGKILL
        assert engine.state("a")["status"] == "stopped"
        assert engine.run("delete", "a") == 1
        assert "Read-only file system" in engine.said()
    engine.done("delete", "a")


def test_store_without_room_is_named_and_left_as_it_was(engine: Engine) -> None:
    state = engine.folder / "state"
    state.mkdir(mode=0o700)
    filling = state / ".filling"
    told = set[str]()
    options = f"size={PAGES * PAGE_BYTES},mode=700"
    with mounted(state, "-t", "tmpfs", "-o", options, "none"):
        for pages in range(PAGES):
            # It may have less room than that: the folder itself takes a page, too.
            with suppress(OSError), filling.open("wb", buffering=0) as file:
                file.write(bytes((PAGES - pages) * PAGE_BYTES))
            if engine.run("create", "--bundle", str(engine.bundle()), "a") == 0:
                break
            last = engine.said().splitlines()[-1].removeprefix("ccinit-runtime: ")
            name, _, why = last.partition(": ")
            assert why.startswith("No space left on device"), last
            told.add(Path(name).name)
            assert list(state.iterdir()) == [filling]
        else:
            pytest.fail("there is room in the end")
        assert {"plan.json", "initdata.img"} <= told
        engine.done("delete", "--force", "a")
