"""Host-side processes: links, forwards, QMP, owned children, and programs of the tools tree.

Needs the tools tree (`CCINIT_TOOLS`, or build/tools). Boots no guest kernel; one boot sector runs.
"""

import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ccinit.errors import ChildError, ConfigError, DeadlineError, PeerError
from host_runtime.commands.boot_plan import ovmf
from host_runtime.launch import launcher
from host_runtime.launch.guest import EndReason
from host_runtime.launch.launcher import GuestConfig, boot_guest
from host_runtime.machine.accelerator import boots
from host_runtime.machine.disks import create_disk
from host_runtime.machine.esp import create_esp
from host_runtime.machine.qemu import Accelerator, EspBoot
from host_runtime.machine.swtpm import VirtualTpm, manufacture_tpm
from host_runtime.plane.transport import UserLink
from host_runtime.programs import process
from host_runtime.programs.process import OwnedProcess
from host_runtime.programs.socket_folder import open_socket_folder
from host_runtime.programs.tools import Tools
from host_runtime.relay.forward import forward, forward_command
from host_runtime.relay.kbs import KbsAddress, guest_path
from tests.fakes.network.tls_server import TlsServer
from tests.integration.free_ports import free_port
from tests.integration.leftovers import children

TOOLS = Tools(tree=Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute())
SYSTEM = Tools()
ENVIRONMENT = SYSTEM.environment()


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """A Unix socket at `path` that reads one line, says `answer`, and closes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            stream, _ = listener.accept()
            with stream:
                stream.recv(100)
                stream.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)  # nobody may come
        thread.start()
        yield
        thread.join()


@pytest.fixture
def sockets() -> Iterator[Path]:
    with open_socket_folder() as folder:
        yield folder


def test_link_leaves_the_streams_first_bytes_alone(sockets: Path) -> None:
    link = UserLink(path=sockets / "vsock")
    with answering(sockets / "vsock", b"OK 7\nfirst"), link.connect(1024, 60) as stream:
        assert stream.recv(100) == b"first"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b"", "vsock.refused"), (b"NO\n", "vsock.answer"), (b"O" * 40, "vsock.answer")],
)
def test_link_without_an_ok_is_refused(sockets: Path, answer: bytes, reason: str) -> None:
    with answering(sockets / "vsock", answer), pytest.raises(PeerError) as error:
        UserLink(path=sockets / "vsock").connect(1024, 60)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("name", "why"),
    [("vsock", "No such file or directory"), ("v" * 200, "AF_UNIX path too long")],
)
def test_link_to_nothing_is_refused_by_its_name(sockets: Path, name: str, why: str) -> None:
    with pytest.raises(PeerError) as error:
        UserLink(path=sockets / name).connect(1024, 60)
    assert (error.value.reason, error.value.detail) == (
        "vsock.refused",
        f"{sockets / name}: nobody answers on port 1024 ({why}): is the guest booted?",
    )


def test_link_that_stays_silent_is_a_deadline(sockets: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(sockets / "vsock"))
        listener.listen()
        with pytest.raises(DeadlineError) as error:
            UserLink(path=sockets / "vsock").connect(1024, 0.1)
    assert error.value.reason == "vsock.connect"


def test_forward_joins_both_ways_and_passes_the_half_close_on() -> None:
    inside, program_end = socket.socketpair()
    with inside, socket.create_server(("127.0.0.1", 0)) as listener:
        command = forward_command("127.0.0.1", listener.getsockname()[1])
        with subprocess.Popen(command, stdin=program_end.fileno()) as child:
            program_end.close()
            outside, _ = listener.accept()
            with outside:
                inside.sendall(b"request")
                inside.shutdown(socket.SHUT_WR)
                assert outside.recv(100) == b"request"
                assert outside.recv(100) == b""
                outside.sendall(b"reply")
            assert inside.recv(100) == b"reply"
            assert inside.recv(100) == b""
            assert child.wait(60) == 0


def test_forward_hears_a_side_that_takes_nothing_for_now() -> None:
    content = os.urandom(4 << 20)  # more than all buffers on the way hold
    (near, inside), (outside, far) = socket.socketpair(), socket.socketpair()
    threads = [threading.Thread(target=forward, args=(inside, outside), daemon=True)]
    threads.append(threading.Thread(target=near.sendall, args=(content,), daemon=True))
    near.settimeout(60)
    far.settimeout(60)
    with near, inside, outside, far:
        for thread in threads:
            thread.start()
        threads.append(threading.Thread(target=far.sendall, args=(content,), daemon=True))
        threads[-1].start()
        assert receive(near, len(content)) == content  # while `far` has read nothing yet
        assert receive(far, len(content)) == content
        near.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
        far.shutdown(socket.SHUT_WR)
        assert near.recv(1) == b""
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()


def receive(stream: socket.socket, count: int) -> bytes:
    content = bytearray()
    while len(content) < count and (data := stream.recv(65536)):
        content += data
    return bytes(content)


def test_forward_to_nobody_is_closed_without_a_word() -> None:
    command = forward_command("127.0.0.1", free_port())
    inside, program_end = socket.socketpair()
    with inside, program_end:
        end = program_end.fileno()
        with subprocess.Popen(command, stdin=end, stdout=end, stderr=end) as child:
            program_end.close()
            assert inside.recv(100) == b""
            assert child.wait(60) == 1


def test_child_that_does_not_obey_is_killed(tmp_path: Path) -> None:
    command = (*SYSTEM.command("sh"), "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    log = tmp_path / "log"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_STOP_SECONDS", 0.3)
        with OwnedProcess(command, log=log, environment=ENVIRONMENT) as child:
            while log.read_bytes() != b"ready\n":
                child.require_running()
        assert child.exit_code() == -9


def test_child_that_ended_is_reported_with_its_words(tmp_path: Path) -> None:
    command = (*SYSTEM.command("sh"), "-c", "echo no such device; exit 3")
    with OwnedProcess(command, log=tmp_path / "log", environment=ENVIRONMENT) as child:
        assert child.wait(60) == 3
        with pytest.raises(ChildError, match="no such device") as error:
            child.require_running()
    assert error.value.reason == "process.ended"


def test_interrupt_while_a_child_gets_ready_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children()

    class Started(OwnedProcess):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            assert children().keys() - before.keys() == {self.pid}
            # Not before: who starts it would be hit.
            us = threading.main_thread().ident
            threading.Timer(0.3, signal.pthread_kill, (us, signal.SIGUSR1)).start()

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher, "OwnedProcess", Started)
    handler = signal.signal(signal.SIGUSR1, interrupt)
    command = (*SYSTEM.command("sh"), "-c", "exec sleep 60")
    try:
        with pytest.raises(KeyboardInterrupt):
            launcher._start_ready(command, tmp_path / "log", "the sleeper", ())
    finally:
        signal.signal(signal.SIGUSR1, handler)
    assert children().keys() == before.keys()


def test_program_that_fails_is_reported_with_its_words() -> None:
    with pytest.raises(ChildError, match="bad disk") as error:
        process.run((*SYSTEM.command("sh"), "-c", "echo bad disk >&2; exit 1"), environment={})
    assert error.value.reason == "process.failed"
    assert process.run((*SYSTEM.command("sh"), "-c", "echo good"), environment={}) == b"good\n"


def test_boot_sector_runs_under_emulation() -> None:
    assert boots(TOOLS, Accelerator.TCG)


def test_boot_sector_runs_wherever_temporary_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "with a comma,").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "with a comma,"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert boots(TOOLS, Accelerator.TCG)


def test_esp_is_the_same_for_the_same_uki(tmp_path: Path) -> None:
    uki = tmp_path / "uki.efi"
    uki.write_bytes(os.urandom(50_000_000))  # larger than the smallest image
    first = create_esp(TOOLS, uki, tmp_path / "first")
    os.utime(uki, (1, 1))
    second = create_esp(TOOLS, uki, tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()
    copy = tmp_path / "copy"
    command = (*TOOLS.command("mcopy"), "-i", str(first), "::/EFI/BOOT/BOOTX64.EFI", str(copy))
    process.run(command, environment=TOOLS.environment())
    assert copy.read_bytes() == uki.read_bytes()


def test_esp_has_room_for_a_large_uki_and_its_fats(tmp_path: Path) -> None:
    uki = tmp_path / "uki.efi"
    with uki.open("wb") as file:
        file.truncate(300 << 20)
    create_esp(TOOLS, uki, tmp_path / "esp")
    listing = (*TOOLS.command("mdir"), "-i", str(tmp_path / "esp"), "::/EFI/BOOT")
    assert b" 314 572 800 " in process.run(listing, environment=TOOLS.environment())


def test_manufactured_tpm_has_a_restricted_signing_key(tmp_path: Path, sockets: Path) -> None:
    tpm = manufacture_tpm(TOOLS, tmp_path / "tpm")
    key = load_der_public_key(tpm.ak_public_der())
    assert isinstance(key, RSAPublicKey)
    assert key.key_size == 2048
    assert VirtualTpm(folder=tmp_path / "tpm").ak_public_der() == tpm.ak_public_der()
    with pytest.raises(FileExistsError):
        manufacture_tpm(TOOLS, tmp_path / "tpm")
    assert [path.name for path in tmp_path.iterdir()] == ["tpm"]
    with tpm.start(TOOLS, control_socket=sockets / "tpm", log=tmp_path / "log") as running:
        running.require_running()
        with pytest.raises(ConfigError) as error:
            tpm.start(TOOLS, control_socket=sockets / "other", log=tmp_path / "log2")
        assert error.value.reason == "tpm.busy"
    with tpm.start(TOOLS, control_socket=sockets / "next", log=tmp_path / "log"):
        pass
    (tmp_path / "tpm/state/tpm2-00.permall").unlink()  # swtpm would begin another TPM
    with pytest.raises(ConfigError) as error:
        tpm.start(TOOLS, control_socket=sockets / "last", log=tmp_path / "log")
    assert error.value.reason == "tpm.folder"


def test_folder_of_a_tpm_may_have_a_comma_in_its_path(tmp_path: Path, sockets: Path) -> None:
    tpm = manufacture_tpm(TOOLS, tmp_path / "a, b" / "tpm,1")
    with tpm.start(TOOLS, control_socket=sockets / "tpm", log=tmp_path / "log") as running:
        running.require_running()
    tpm.require_whole()


def test_tpm_that_could_not_be_made_leaves_no_half_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tpm"

    def fail(_command: object, **_how: object) -> bytes:
        assert not folder.exists()  # it gets its name last: a kill could come here
        raise ChildError("process.failed", "tpm2_createek ended with 1")

    monkeypatch.setattr(process, "run", fail)
    with pytest.raises(ChildError):
        manufacture_tpm(TOOLS, folder)
    assert list(tmp_path.iterdir()) == []


def _firmware_only(folder: Path) -> GuestConfig:
    """A guest whose firmware finds nothing to boot, and stays in its shell."""
    return GuestConfig(
        tools=TOOLS,
        folder=folder,
        boot=EspBoot(image=create_disk(folder / "empty.img", b"")),
        accelerator=Accelerator.TCG,
        firmware=ovmf(TOOLS),
    )


def test_guest_is_ended_and_leaves_nothing_behind(tmp_path: Path) -> None:
    before = children()
    tpm = manufacture_tpm(TOOLS, tmp_path / "tpm")
    folder = tmp_path / "guest"
    folder.mkdir()
    said: list[str] = []
    with boot_guest(replace(_firmware_only(folder), tpm=tpm), said.append) as guest:
        logs = [guest.files.log(name) for name in ("qemu", "swtpm", "vsock")]
        for log in logs:
            os.truncate(log, 2 << 20)  # as if it had complained for months
        link = guest.files.vsock_link.resolve()
        assert link.is_socket()
        assert guest.qmp.execute("query-status")["running"] is True
        with pytest.raises(DeadlineError) as error:
            guest.wait_for_port(1024, 0.3)
        assert error.value.reason == "guest.port"
        assert all(log.stat().st_size < 1000 for log in logs)
        guest.quit()
        assert guest.wait_for_end(60) is EndReason.QUIT
    assert said == ["starting the vTPM", "starting the vsock device", "starting QEMU"]
    assert not link.parent.exists()
    assert not guest.files.vsock_link.is_symlink()
    assert children().keys() == before.keys()


def test_guests_connections_to_its_kbs_are_carried_while_it_runs(tmp_path: Path) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"kbs: " + connection.recv(100))

    said: list[str] = []
    with TlsServer(None, answer) as kbs:
        config = replace(_firmware_only(tmp_path), kbs=KbsAddress(host="127.0.0.1", port=kbs.port))
        with boot_guest(config, said.append) as guest:
            log = guest.files.log("kbs-relay")
            os.truncate(log, 2 << 20)
            with pytest.raises(DeadlineError):
                guest.wait_for_port(1024, 0.3)
            assert log.stat().st_size < 1000
            path = guest_path(guest.files.vsock_link.resolve())
            with socket.socket(socket.AF_UNIX) as device:  # as the vsock device connects
                device.connect(str(path))
                device.sendall(b"hello")
                assert device.recv(100) == b"kbs: hello"
    assert f"relaying the guest's vsock port 1025 to 127.0.0.1:{kbs.port}" in said
    assert not path.exists()


def test_failing_caller_ends_the_guest_too(tmp_path: Path) -> None:
    pids = []

    def fail() -> None:
        with boot_guest(_firmware_only(tmp_path)) as guest:
            pids.append(guest.pid)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not Path(f"/proc/{pids[0]}").exists()


def test_machine_that_qemu_refuses_is_reported_in_its_words(tmp_path: Path) -> None:
    config = replace(_firmware_only(tmp_path), boot=EspBoot(image=tmp_path / "missing"))
    with pytest.raises(ChildError, match="missing") as error, boot_guest(config):
        raise AssertionError("there is no guest")
    assert error.value.reason == "process.ended"
