"""Programs that a child starts: they have its rights and no more.

Needs root, for the change of user, and a kernel with Landlock (ABI 6) and seccomp.
"""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import RIGHTS, Role
from ccinit.errors import ChildError
from tests.integration.children.harness import SECONDS, needs_root, run_order, status_of

pytestmark = needs_root


def run_scripts(children: Children, workspace: Path, *scripts: str) -> str:
    """Have the role that starts programs run each script by the shell; return how that ended."""
    uid = RIGHTS[Role.INDEX].uid
    os.chown(workspace, uid, uid)
    text, place = "\n".join(scripts), str(workspace)
    try:
        order = run_order(children, "start_programs", text, role=Role.INDEX, workspace=place)
    except ChildError as error:
        return str(error)
    return order.text


def test_one_child_starts_a_program_several_times(children: Children, workspace: Path) -> None:
    assert run_scripts(children, workspace, *([":"] * 7)) == "all"
    told = "pull.index: sh: exit code 3: no?more?"
    assert run_scripts(children, workspace, *([":"] * 7), "echo no; echo more; exit 3") == told
    assert run_scripts(children, workspace, "exit 4", ":", "exit 5").endswith("exit code 4: ")


def test_program_that_complains_is_not_waited_for(children: Children, workspace: Path) -> None:
    """Without room mkfs.erofs says so, and does not end."""
    end = workspace / "end"
    waiting = f"while [ ! -e {end} ]; do :; done"
    alone = run_scripts(children, workspace, f"echo '<E> no room'; {waiting}")
    warnings = "while [ ${#x} -lt 600 ]; do x=$x$x.; done; echo $x"
    behind = run_scripts(children, workspace, f"{warnings}; echo '<E> no room'; {waiting}")
    end.touch()
    assert alone == behind == "pull.index: sh: complains: <E> no room?"
    assert run_scripts(children, workspace, "echo '<W> nothing'") == "all"


def test_long_output_of_a_program_holds_nobody_up(children: Children, workspace: Path) -> None:
    words = "while [ ${#x} -lt 200000 ]; do x=$x$x$x.; done; echo $x; echo $x"
    assert run_scripts(children, workspace, *([words] * 3)) == "all"
    told = run_scripts(children, workspace, f"{words}; exit 1")
    assert told.startswith("pull.index: sh: exit code 1: ....")
    assert len(told) < 600


def test_program_that_a_child_starts_makes_no_process_and_reaches_its_workspace_alone(
    children: Children, workspace: Path
) -> None:
    inside, beside = workspace / "script", Path(f"{workspace}-beside")
    for path in (inside, beside):
        path.write_text("exit 7")
        path.chmod(0o644)
    try:
        assert "exit code 7" in run_scripts(children, workspace, f". {inside}")
        assert "Permission denied" in run_scripts(children, workspace, f". {beside}")
        assert "Cannot fork" in run_scripts(children, workspace, "(:)")
        assert "Permission denied" in run_scripts(children, workspace, "exec /bin/true")
        assert "signal 31" in run_scripts(children, workspace, "kill -9 1")
    finally:
        beside.unlink()


def test_program_that_a_child_starts_has_both_filters_and_no_channel(
    children: Children, workspace: Path
) -> None:
    flag = workspace / "seen"
    seen: list[tuple[dict[str, str], set[str]]] = []

    def look() -> None:
        end = time.monotonic() + SECONDS
        while len(seen) < 20 and time.monotonic() < end:  # a loader has a library open, at first
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    line = (process / "cmdline").read_bytes()
                    if line.startswith(b"/bin/sh\0") and str(flag).encode() in line:
                        fds = {path.name for path in (process / "fd").iterdir()}
                        seen.append((status_of(int(process.name)), fds))
        flag.touch()

    watcher = threading.Thread(target=look)
    watcher.start()
    assert run_scripts(children, workspace, f"while [ ! -e {flag} ]; do :; done") == "all"
    watcher.join()
    assert len(seen) >= 20
    status = seen[-1][0]
    assert set.intersection(*(fds for _status, fds in seen)) == {"0", "1", "2"}
    assert status["Seccomp_filters"].strip() == "2"
    assert status["CapEff"].strip("0\n") == ""
    assert status["Uid"].split() == [str(RIGHTS[Role.INDEX].uid)] * 4
