"""`host-runtime boot` as whoever starts it sees it: how it ends, and what it leaves behind.

Needs the tools tree (`CCINIT_TOOLS`, or build/tools). The guests are firmware that finds nothing to
boot, and stays in its shell.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from host_runtime.programs.process import python_environment
from host_runtime.programs.socket_folder import open_socket_folder
from tests.fakes.published.pe_images import uki_image
from tests.integration.leftovers import awaited

TOOLS = Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute()
RUNS = "the guest runs"


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder for folders of sockets, with a short path."""
    with open_socket_folder() as folder:
        yield folder


@contextmanager
def boot(
    folder: Path, runtime: Path, *options: str, umask: int = -1
) -> Iterator["subprocess.Popen[str]"]:
    """Start a guest; its command is given when it runs, and is to end within the block."""
    uki = folder.with_name("uki")
    uki.write_bytes(uki_image())
    options = ("--hello-seconds", "0", *options, "--accelerator", "tcg", "--memory", "128")
    child = subprocess.Popen(
        (
            *(sys.executable, "-m", "host_runtime", "boot", str(folder)),
            *("--tools", str(TOOLS), "--uki", str(uki), *options),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        umask=umask,
        env={**python_environment(), "XDG_RUNTIME_DIR": str(runtime)},
    )
    with awaited(child):
        assert child.stderr is not None
        said = ""
        while RUNS not in said:
            line = child.stderr.readline()
            assert line, said
            said += line
        yield child


def descendants(pid: int) -> dict[str, int]:
    """The ids of a process's children by their names."""
    found = {}
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            name = "qemu" if "qemu-system-x86_64" in words else words[words.index("-m") + 1]
            found[name] = child
    return found


def wait_until_gone(pids: dict[str, int]) -> None:
    deadline = time.monotonic() + 60
    while alive := [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def test_killed_launcher_takes_all_with_it_and_the_next_one_clears_up(
    tmp_path: Path, runtime: Path
) -> None:
    with boot(tmp_path / "first", runtime) as first:
        children = descendants(first.pid)
        assert set(children) == {"qemu", "host_runtime.vsock.device"}
        first.kill()
    wait_until_gone(children)
    (abandoned,) = runtime.iterdir()
    with boot(tmp_path / "second", runtime) as second:
        assert not abandoned.exists()
        children = descendants(second.pid)
        assert second.stderr is not None
        second.stderr.close()  # a reader that goes away ends no guest
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 128 + signal.SIGTERM
    wait_until_gone(children)
    assert list(runtime.iterdir()) == []
    assert not (tmp_path / "second" / "vsock").is_symlink()


def test_what_a_guest_boots_and_writes_is_nobody_elses_to_write_whatever_the_umask(
    tmp_path: Path, runtime: Path
) -> None:
    with boot(tmp_path / "guest", runtime, "--tpm", str(tmp_path / "tpm"), umask=0) as command:
        made = [path for name in ("guest", "tpm") for path in (tmp_path / name).rglob("*")]
        assert {"esp.img", "serial", "vsock.capture", "tpm2-00.permall"} <= {p.name for p in made}
        assert [path for path in made if path.is_file() and path.stat().st_mode & 0o002] == []
        command.send_signal(signal.SIGTERM)
        assert command.wait(60) == 128 + signal.SIGTERM


def refused(folder: Path, *options: str) -> str:
    """Boot a guest whose QEMU does not start; return the last of what is said."""
    uki = folder / "uki"
    uki.write_bytes(uki_image())
    done = subprocess.run(
        (
            *(sys.executable, "-m", "host_runtime", "boot", str(folder / "guest")),
            *("--tools", str(TOOLS), "--uki", str(uki), "--accelerator", "tcg", *options),
        ),
        capture_output=True,
        text=True,
        check=False,
        env={**python_environment(), "XDG_RUNTIME_DIR": str(folder)},
    )
    assert (done.returncode, done.stdout) == (1, "")
    said = done.stderr.partition("host-runtime: starting QEMU\n")[2]
    assert said.startswith("host-runtime: qemu-system-x86_64 ended with 1: ")
    assert said.endswith(" [process.ended]\n")
    return said


def test_qemu_that_does_not_start_says_why(tmp_path: Path) -> None:
    assert "phys-bits too low" in refused(tmp_path, "--memory", str(1 << 23))  # MiB


def test_vtpm_whose_state_is_damaged_says_why(tmp_path: Path) -> None:
    (tmp_path / "tpm/state").mkdir(parents=True)
    (tmp_path / "tpm/ak.der").touch()
    (tmp_path / "tpm/state/tpm2-00.permall").write_bytes(b"nothing of a TPM")
    said = refused(tmp_path, "--tpm", str(tmp_path / "tpm"))
    assert "TPM result for CMD_INIT" in said
    assert "swtpm: Error: Could not initialize the TPM" in said


def test_vtpm_of_a_guest_that_runs_is_told_before_anything_is_made(tmp_path: Path) -> None:
    """Else the next try would be refused because of what this one left in the guest's folder."""
    tpm = tmp_path / "tpm"
    (tpm / "state").mkdir(parents=True)
    for name in ("ak.der", "state/tpm2-00.permall", "ends-not-counted"):
        (tpm / name).touch()
    command = (sys.executable, "-m", "host_runtime", "boot", str(tmp_path / "guest"))
    (tmp_path / "uki").write_bytes(uki_image())
    options = ("--uki", str(tmp_path / "uki"), "--tools", str(TOOLS), "--tpm", str(tpm))
    with (tpm / "lock").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = subprocess.run(
            (*command, *options),
            capture_output=True,
            text=True,
            check=False,
            env={**python_environment(), "XDG_RUNTIME_DIR": str(tmp_path)},
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(f"a guest runs with the vTPM {tpm} [tpm.busy]\n")
    assert not (tmp_path / "guest").exists()
    assert "phys-bits too low" in refused(tmp_path, "--tpm", str(tpm), "--memory", str(1 << 23))


def test_boot_whose_vtpm_cannot_be_made_can_be_tried_again_in_its_folder(tmp_path: Path) -> None:
    uki, guest = tmp_path / "uki", tmp_path / "guest"
    uki.write_bytes(uki_image())
    (tmp_path / "file").touch()
    command = (sys.executable, "-m", "host_runtime", "boot", str(guest), "--uki", str(uki))
    options = ("--tools", str(TOOLS), "--accelerator", "tcg", "--hello-seconds", "0.1")
    for tpm, reason in (("file/tpm", "file: File exists"), ("tpm", "[guest.port]")):
        done = subprocess.run(
            (*command, *options, "--tpm", str(tmp_path / tpm)),
            capture_output=True,
            text=True,
            check=False,
            env={**python_environment(), "XDG_RUNTIME_DIR": str(tmp_path)},
        )
        assert done.returncode == 1
        assert done.stderr.endswith(f"{reason}\n"), done.stderr
    told = "nothing on vsock port 1024 in 0.1 s: its image does not start, or is slower than"
    assert told in done.stderr


def test_qemu_that_dies_is_reported_and_fails_the_command(tmp_path: Path, runtime: Path) -> None:
    with boot(tmp_path / "guest", runtime) as child:
        os.kill(descendants(child.pid)["qemu"], signal.SIGKILL)
        said, complained = child.communicate(timeout=60)
        assert child.returncode == 1
    assert json.loads(said)["ended"] == "crashed"
    assert complained.endswith("QEMU ended with -9: it printed nothing [guest.crashed]\n")


def test_vsock_device_that_dies_ends_the_wait_for_the_guests_hello(
    tmp_path: Path, runtime: Path
) -> None:
    with boot(tmp_path / "guest", runtime, "--hello-seconds", "60") as child:
        os.kill(descendants(child.pid)["host_runtime.vsock.device"], signal.SIGKILL)
        began = time.monotonic()
        _, complained = child.communicate(timeout=50)
        assert (child.returncode, time.monotonic() - began < 30) == (1, True)
    told = "the vsock device ended with -9, so nobody can reach the guest: it printed nothing"
    assert complained.splitlines()[-1] == f"host-runtime: {told} [process.ended]"


def test_output_that_is_not_to_be_kept_is_nowhere(tmp_path: Path, runtime: Path) -> None:
    with boot(tmp_path / "guest", runtime, "--discard-output", "--network", "restricted") as child:
        os.kill(descendants(child.pid)["qemu"], signal.SIGTERM)
        said, _ = child.communicate(timeout=60)
        assert child.returncode == 0
    assert json.loads(said) == {"ended": "host-signal", "exit_code": None}
    kept = {path.name for path in (tmp_path / "guest").iterdir()}
    firmware = {"esp.img", "variables.fd", "variables.before.fd"}
    assert kept == {"events.jsonl", "qemu.log", "vsock.log", *firmware}
