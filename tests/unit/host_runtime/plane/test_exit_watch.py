"""Whoever stays with a guest to its end has its pod's exit code, or nothing instead of a wrong one.

The guest is a thread that answers by a script, from the same schema as a real one.
"""

import argparse
import json
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from ccinit.errors import DeadlineError
from ccinit.formats.planes.host_rpc import METHODS, Code, Phase, RpcError
from ccinit.formats.planes.msgpack_rpc import RequestReader, encode_error, encode_result
from host_runtime.commands import boot as boot_command
from host_runtime.launch.guest import EndReason
from host_runtime.plane import exit_watch
from host_runtime.plane.exit_watch import ExitWatch
from host_runtime.plane.rpc_client import GuestClient, Hello

Answer = tuple[int, ...] | RpcError | None  # None: the connection is closed instead
RUN = (Phase.RUN, Code.OK, 9, 0)
ENDED = (Phase.RUN, Code.WORKLOAD_EXIT, 10, 0)
STOP = (Phase.STOP, Code.WORKLOAD_EXIT, 11, 0)


class ScriptedGuest:
    """Answers each connection's calls by a script of its own, and refuses further connections.

    Attributes:
        asked: every method that was called.
        all_said: set once no script is left.
    """

    def __init__(self, *scripts: tuple[Answer, ...]) -> None:
        self.asked: list[str] = []
        self.all_said = threading.Event()
        self._scripts = list(scripts)

    def client(self) -> GuestClient:
        return GuestClient(self._connect)

    def _connect(self) -> socket.socket:
        if not self._scripts:
            raise DeadlineError("vsock.connect", "no answer")
        inside, outside = socket.socketpair()
        script = self._scripts.pop(0)
        threading.Thread(target=self._serve, args=(inside, script), daemon=True).start()
        return outside

    def _serve(self, stream: socket.socket, script: tuple[Answer, ...]) -> None:
        with stream:
            for answer in script:
                (request,) = RequestReader().feed(stream.recv(4096))
                self.asked.append(request.method)
                method = METHODS[request.method]
                match answer:
                    case None:
                        break
                    case RpcError():
                        stream.sendall(encode_error(request.msgid, method.reply_bytes, answer))
                    case _:
                        values = tuple(map(int, answer))
                        stream.sendall(encode_result(request.msgid, method, values))
            if not self._scripts:
                self.all_said.set()


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exit_watch, "_PACE_SECONDS", 0.001)
    monkeypatch.setattr(exit_watch, "_RETRY_SECONDS", 0.001)


def watch(guest: ScriptedGuest) -> int | None:
    """Follow a guest to the end of its script."""
    follower = ExitWatch(guest.client)
    follower.start()
    assert guest.all_said.wait(60)
    return follower.finish()


@pytest.mark.parametrize("code", [0, 7, 255])
def test_guest_is_asked_as_soon_as_it_ends_and_not_before(code: int) -> None:
    guest = ScriptedGuest((RUN, RUN, ENDED, STOP, (code,)))
    assert watch(guest) == code
    assert guest.asked == ["state", "wait", "wait", "wait", "exit"]


@pytest.mark.parametrize("error", [RpcError.DENIED, RpcError.FAILED])
def test_refusal_is_no_code_and_nobody_insists(error: RpcError) -> None:
    guest = ScriptedGuest((STOP, error))
    assert watch(guest) is None
    assert guest.asked == ["state", "exit"]


@pytest.mark.parametrize("error", [RpcError.NOT_NOW, RpcError.BUSY])
def test_guest_that_is_late_or_busy_is_asked_again(error: RpcError) -> None:
    guest = ScriptedGuest((STOP, error), (STOP, (7,)))
    assert watch(guest) == 7
    assert guest.asked == 2 * ["state", "exit"]


def test_connection_that_is_lost_is_made_anew() -> None:
    guest = ScriptedGuest((None,), (RUN, None), (RUN, STOP, None), (STOP, (7,)))
    assert watch(guest) == 7
    assert guest.asked == ["state", *("state", "wait"), *("state", "wait", "exit"),
                           *("state", "exit")]  # fmt: skip


def test_guest_that_is_gone_leaves_no_code() -> None:
    guest = ScriptedGuest((RUN, ENDED))
    assert watch(guest) is None


class FakeGuest:
    """A guest whose QEMU ends as soon as its script is said."""

    def __init__(self, script: ScriptedGuest) -> None:
        self.script = script
        self.client = script.client

    def wait_for_hello(self, _seconds: float) -> Hello:
        return Hello(protocol=1, build_id=bytes(16))

    def wait_for_end(self, _seconds: float) -> EndReason:
        assert self.script.all_said.wait(60)
        return EndReason.RESET

    def require_sound_end(self) -> None:
        pass


@pytest.mark.parametrize(
    ("hello_seconds", "answer", "code"), [(1, (7,), 7), (1, RpcError.DENIED, None), (0, (7,), None)]
)
def test_boot_reports_the_code_that_the_guest_told_and_is_done_whatever_it_is(
    hello_seconds: float,
    answer: Answer,
    code: int | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = ScriptedGuest((RUN, STOP, answer))
    if not hello_seconds:
        script.all_said.set()  # nobody calls it

    @contextmanager
    def boot_guest(*_: object) -> Iterator[FakeGuest]:
        yield FakeGuest(script)

    monkeypatch.setattr(boot_command, "boot_guest", boot_guest)
    monkeypatch.setattr(
        boot_command, "prepare_boot", lambda _: SimpleNamespace(keeps_output=False, network=None)
    )
    options = argparse.Namespace(
        print=False, hello_seconds=hello_seconds, seconds=math.inf, folder="g"
    )
    assert boot_command._boot(options) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"ended": "guest-reset", "exit_code": code}
    assert bool(script.asked) is bool(hello_seconds)
    *earlier, last = printed.err.splitlines()  # who follows the advice is to get an answer
    assert last.endswith("; `host-runtime state --guest g` asks where it is")
    assert ("hello from build" in last) is bool(hello_seconds)
    assert not any("host-runtime state" in line for line in earlier)
