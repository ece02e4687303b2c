"""`guest-owner debug`: the order stands while the guest asks, and not a moment longer."""

import io
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ccinit.errors import PeerError
from ccinit.formats.disk.verity import RootHash, Salt, VerityParameters
from ccinit.formats.initdata.guest_config import parse_guest_config
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from ccinit.formats.planes.owner_rpc import DEBUG_CONTAINER, Stream
from guest_owner.commands import debug as debug_command
from guest_owner.kbs.minting import DebugOrder
from guest_owner.kbs.state.store import Store
from guest_owner.plane.open_call import Streams
from tests.fakes.documents.guest import CONFIG
from tests.unit.guest_owner.command_line import error_of, run

ROOT = RootHash(b"\xab" * 32)
TOOLS = VerityParameters(root_hash=ROOT, salt=Salt(b"\xcd" * 32), data_blocks=300)
URI = parse_resource_uri("kbs:///ccinit/shop/debug-grant")


class FakeClient:
    """The guest's end: sees the order when it is asked, and may refuse."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.failure: PeerError | None = None
        self.replacement: DebugOrder | None = None
        self.signal: signal.Signals | None = None
        self.orders: list[object] = []
        self.ran: list[tuple[object, ...]] = []
        self.wait: Callable[[], None] = lambda: None

    def call(self, name: str, *params: object, seconds: float) -> tuple[int, bool]:
        assert (name, params, seconds) == ("open_debug", (), 900)
        self.wait()
        self.orders.append(Store(self.state).read_order(URI))
        if self.replacement is not None:
            Store(self.state).write_order(URI, self.replacement)
        if self.signal is not None:
            signal.raise_signal(self.signal)
        if self.failure is not None:
            raise self.failure
        return 3600, False

    def stream(self, name: str, *params: object, streams: Streams) -> tuple[int, int]:
        assert name == "exec"
        assert set(streams.sinks) == {Stream.OUTPUT, Stream.ERROR}
        self.ran.append(params)
        return 5, 0


@pytest.fixture
def client(state: Path, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    made = FakeClient(state)

    @contextmanager
    def connect(_arguments: object) -> Iterator[FakeClient]:
        yield made

    monkeypatch.setattr(debug_command, "connect", connect)
    return made


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    return write_tools(tmp_path / "tools.json")


def write_tools(path: Path, **changes: object) -> Path:
    value = {
        "root_hash": TOOLS.root_hash.hex(),
        "salt": TOOLS.salt.hex(),
        "data_blocks": TOOLS.data_blocks,
        "size_bytes": TOOLS.device_bytes,
    }
    path.write_text(json.dumps(value | changes))
    return path


def test_table_for_the_configuration_is_what_the_guest_reads(
    tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("debug", "tools", tools) == 0
    assert parse_guest_config(CONFIG + capsys.readouterr().out).debug.tools == TOOLS


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size_bytes": TOOLS.device_bytes + 4096}, "debug.tools.size_bytes"),
        ({"root_hash": "ab"}, "debug.tools.root_hash"),
        ({"version": 2}, "debug.tools.unknown"),
    ],
)
def test_description_of_other_tools_is_refused(
    tmp_path: Path, changes: dict[str, object], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("debug", "tools", write_tools(tmp_path / "x", **changes)) == 1
    assert f"[{reason}]" in error_of(capsys)


def test_grant_stands_until_its_end(state: Path, tools: Path) -> None:
    before = int(time.time())
    words = ("--tools", tools, "--minutes", "30", "--keep-pod", "--state", state)
    assert run("debug", "grant", "shop", *words) == 0
    order = Store(state).read_order(URI)
    assert isinstance(order, DebugOrder)
    assert (order.tools_root, order.keep_pod) == (ROOT, True)
    assert 0 <= order.expires_s - before - 30 * 60 <= 60


@pytest.mark.parametrize("minutes", [0, 24 * 60 + 1])
def test_grant_for_more_than_a_day_is_refused(
    state: Path, tools: Path, minutes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--tools", tools, "--state", state)
    with pytest.raises(SystemExit):
        run("debug", "grant", "shop", *words, "--minutes", minutes)
    assert f"--minutes: expected 1 to 1440, found '{minutes}'" in error_of(capsys)
    assert run("debug", "grant", "shop", *words, "--minutes", 24 * 60) == 0


def test_order_stands_only_while_the_guest_asks(
    client: FakeClient, state: Path, tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("debug", "open", "--pod", "shop", "--state", state, "--tools", tools)
    assert run(*words, "--", "/bin/dmesg", "-w") == 5
    (order,) = client.orders
    assert isinstance(order, DebugOrder)
    assert not Store(state).has_resource(URI)
    assert client.ran == [(DEBUG_CONTAINER, ("/bin/dmesg", "-w"), False, 0, 0)]
    assert "guest-owner: debug is open: the guest ends in 3600 s, its pod was stopped" in error_of(
        capsys
    )
    assert run(*words) == 5
    assert client.ran[1][1] == ("/bin/sh", "-i")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What a connection was made for; it fails."""
    calls: list[object] = []

    def connect(arguments: object) -> None:
        calls.append(arguments)
        raise PeerError("owner.asked", "a guest was asked")

    monkeypatch.setattr(debug_command, "connect", connect)
    return calls


def test_what_cannot_be_run_is_told_before_the_pod_is_stopped_for_it(
    tools: Path, asked: list[object], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = ("debug", "open", "--pod", "shop", "--tools", tools)
    assert run(*words, "--", "sh") == 2
    assert "[exec.args]" in error_of(capsys)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(*words, "-i", "-t") == 1
    assert "[owner.terminal]" in error_of(capsys)
    assert asked == []
    assert run(*words, "-i", "--", "/bin/sh") == 1
    assert len(asked) == 1


def test_tools_that_are_none_are_told_before_anybody_is_asked(
    state: Path, tmp_path: Path, tools: Path, asked: list[object], capsys: Any
) -> None:
    words = ("debug", "open", "--pod", "shop", "--state", state, "--tools")
    for none in (tmp_path / "missing", write_tools(tmp_path / "short", root_hash="ab")):
        assert run(*words, none) == 1
        assert f"{none}: " in error_of(capsys)
        assert asked == []
    assert run(*words, tools) == 1
    assert "[owner.asked]" in error_of(capsys)


def test_opening_that_takes_long_says_that_the_guest_asks(
    client: FakeClient,
    state: Path,
    tools: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("debug", "open", "--pod", "shop", "--state", state, "--tools", tools)
    assert run(*words) == 5
    assert "waiting" not in error_of(capsys)
    monkeypatch.setattr("guest_owner.plane.kbs_wait.ANNOUNCE_SECONDS", 0.01)

    def wait_to_be_told() -> None:
        end, told = time.monotonic() + 30, ""
        while "asks its KBS" not in told:
            assert time.monotonic() < end
            time.sleep(0.01)
            told += error_of(capsys)
        assert told.startswith("guest-owner: waiting: the guest attests anew")
        assert told.endswith("; debug is not open yet\n")

    client.wait = wait_to_be_told
    assert run(*words) == 5


def test_order_is_taken_back_when_the_guest_refuses(
    client: FakeClient, state: Path, tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.failure = PeerError("debug.tools_root", "others")
    assert run("debug", "open", "--pod", "shop", "--state", state, "--tools", tools) == 1
    assert "[debug.tools_root]" in error_of(capsys)
    assert not Store(state).has_resource(URI)
    assert client.ran == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_order_is_taken_back_when_the_command_is_told_to_end(
    client: FakeClient,
    state: Path,
    tools: Path,
    number: signal.Signals,
) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # as in a terminal, even below nohup
    client.signal = number
    try:
        with pytest.raises(SystemExit, match=str(128 + number)):
            run("debug", "open", "--pod", "shop", "--state", state, "--tools", tools)
    finally:
        signal.signal(number, before)
    assert isinstance(client.orders[0], DebugOrder)
    assert not Store(state).has_resource(URI)
    assert client.ran == []


def test_order_is_taken_back_when_an_interrupt_meets_its_writing(
    client: FakeClient, state: Path, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[DebugOrder] = []

    def interrupted(store: Store, uri: ResourceUri, order: DebugOrder) -> None:
        write_order(store, uri, order)
        written.append(order)
        raise KeyboardInterrupt

    write_order = Store.write_order
    words = ("debug", "open", "--pod", "shop", "--state", state, "--tools", tools)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_order", interrupted)
        assert run(*words) == 130
    assert len(written) == 1
    assert not Store(state).has_resource(URI)
    assert client.orders == []
    assert run(*words) == 5


def test_order_of_somebody_else_stays(
    client: FakeClient, state: Path, tools: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("debug", "grant", "shop", "--tools", tools, "--state", state) == 0
    words = ("debug", "open", "--pod", "shop", "--state", state)
    assert run(*words, "--tools", tools) == 1
    assert "[debug.granted]" in error_of(capsys)
    assert client.orders == []
    assert run(*words, "--granted") == 5
    assert Store(state).has_resource(URI)


def test_order_that_has_ended_is_in_nobodys_way(
    client: FakeClient, state: Path, tools: Path
) -> None:
    ended = DebugOrder(expires_s=int(time.time()), tools_root=ROOT, keep_pod=False)
    Store(state).write_order(URI, ended)
    assert run("debug", "open", "--pod", "shop", "--state", state, "--tools", tools) == 5
    (order,) = client.orders
    assert isinstance(order, DebugOrder)
    assert order.expires_s > ended.expires_s
    assert not Store(state).has_resource(URI)


def test_order_that_somebody_else_left_meanwhile_stays(
    client: FakeClient, state: Path, tools: Path
) -> None:
    theirs = DebugOrder(expires_s=int(time.time()) + 77, tools_root=ROOT, keep_pod=True)
    words = ("debug", "open", "--pod", "shop", "--state", state, "--tools", tools)
    client.replacement = theirs
    assert run(*words) == 5
    assert Store(state).read_order(URI) == theirs
