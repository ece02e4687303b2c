"""Parts of a guest's machine that start but never get ready: told after a while, and ended."""

import os
from pathlib import Path

import pytest

from ccinit.errors import DeadlineError
from host_runtime.launch import launcher
from host_runtime.oci_runtime import life_start
from tests.integration.host.bare_engine import Engine, children_of
from tests.integration.leftovers import leaving_no_children

HANGING = ("/bin/sh", "-c", "echo begun; exec sleep 600")  # begun soon, whatever else runs


def test_program_that_never_listens_is_ended_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "_READY_SECONDS", 2.0)
    with leaving_no_children(), pytest.raises(DeadlineError) as caught:
        launcher._start_ready(HANGING, tmp_path / "log", "the vsock device", ())
    assert caught.value.reason == "process.ready"
    told = "the vsock device does not listen after 2 s, and was ended: begun; "
    assert caught.value.detail.startswith(told)


def test_life_that_is_never_ready_is_ended_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life_start, "python_command", lambda _module: HANGING)
    monkeypatch.setattr(life_start, "_READY_SECONDS", 0.3)
    with (
        leaving_no_children(),
        pytest.raises(DeadlineError, match=r"not ready after 0\.3 s") as caught,
        life_start.started_life("module", tmp_path),
    ):
        raise AssertionError("it is not ready")
    assert caught.value.reason == "process.ready"


def test_creation_whose_process_hangs_fails_and_leaves_nothing(engine: Engine) -> None:
    hanging = """
import os, signal, threading
from host_runtime.oci_runtime import cli, life_start
life_start._READY_SECONDS = 1
started = life_start.subprocess.Popen
def stopped(*words, **options):
    life = started(*words, **options)
    os.kill(life.pid, signal.SIGSTOP)
    return life
life_start.subprocess.Popen = stopped
raise SystemExit(cli.main())
"""
    before = children_of(os.getpid()).keys()
    words = ("create", "--bundle", str(engine.bundle()), "a")
    assert engine.run(*words, program=("-c", hanging)) == 1
    assert engine.said().endswith(" [process.ready]\n")
    assert children_of(os.getpid()).keys() == before
    assert list((engine.folder / "state").iterdir()) == []
    engine.create("a")
