"""Who may call what, in which order that is asked, and that a refused call touches nothing."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ccinit.agent.planes import owner_service
from ccinit.agent.planes.owner_caller import Caller
from ccinit.agent.planes.owner_service import HANDLERS, OwnerService
from ccinit.agent.planes.owner_streams import done
from ccinit.errors import ChildError, ConfigError, KernelError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.planes.host_rpc import Phase, RpcError
from ccinit.formats.planes.owner_rpc import (
    DEBUG_CONTAINER,
    MAX_EVIDENCE_BYTES,
    METHODS,
    ClientRole,
)
from ccinit.kernel.event_loop import EventLoop
from ccinit.owner.messages import (
    CALLS,
    Attach,
    Attest,
    CallAnswer,
    CallEnd,
    Copy,
    Events,
    Exec,
    Greeting,
    Logs,
    Metrics,
    OpenDebug,
    OwnerCall,
    Rotate,
    Signal,
)

GROUP = 0x11EC


def program_in(container: str) -> Exec:
    return Exec(container=container, args=("/bin/id",), tty=False, rows=0, columns=0)


def file_in(container: str) -> Copy:
    return Copy(container=container, path="/etc/hostname", into=False, mode=0)


GOOD: tuple[OwnerCall, ...] = (
    Attest(nonce=bytes(32)),
    Logs(container="web", since=0, follow=False),
    Events(since=0, follow=False),
    Metrics(),
    Attach(container="web"),
    program_in("web"),
    file_in("web"),
    Signal(container="web", number=10),
    Rotate(),
    OpenDebug(),
)
IN_A_CONTAINER: dict[str, Callable[[str], OwnerCall]] = {
    "logs": lambda name: Logs(container=name, since=0, follow=False),
    "attach": lambda name: Attach(container=name),
    "exec": program_in,
    "copy": file_in,
    "signal": lambda name: Signal(container=name, number=10),
}
ACTING = ("exec", "copy", "signal")


class Container:
    """Notes what it is asked to do, and is out of files and processes."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def exec(self, *_: object, **__: object) -> Any:
        self.asked.append("exec")
        raise KernelError(11, "clone3", "program")

    def open_file(self, path: str, **_: object) -> int:
        self.asked.append(f"open {path}")
        raise KernelError(24, "openat2", path)

    def send_signal(self, number: int) -> None:
        self.asked.append(f"signal {number}")


class Bench:
    """A service whose manifest lets programs into `web`, and not into `db`."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.web, self.db, self.debug = Container(), Container(), Container()
        self.state = SimpleNamespace(phase=Phase.RUN, is_debug=False)
        self.guest = SimpleNamespace(
            containers={"web": self.web, "db": self.db}, state=self.state, event=self.events.append
        )
        manifest = SimpleNamespace(
            containers=(SimpleNamespace(name="web"), SimpleNamespace(name="db")),
            allow=SimpleNamespace(exec=("web",)),
        )
        self.service = OwnerService(
            guest=cast("Any", self.guest),
            configured=cast("Any", SimpleNamespace(manifest=manifest)),
            attested=cast("Any", None),
        )
        self.caller = Caller(self.events.append, b"")

    def greet(self, role: ClientRole) -> None:
        self.caller.greet(Greeting(role=role, subject="ops\n", group=GROUP))

    def call(self, call: OwnerCall) -> CallEnd:
        self.guest.loop = loop = EventLoop()
        answer: Any = self.service.answers(self.caller)[type(call)](call)
        value: CallAnswer = loop.run(answer).value
        assert value.end is not None
        return value.end

    def refusal(self, call: OwnerCall) -> tuple[int, str]:
        end = self.call(call)
        return end.code, end.reason

    def require_untouched(self) -> None:
        assert self.web.asked == self.db.asked == self.debug.asked == []


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have every method only say that it was reached."""
    names: list[str] = []

    def reach(name: str) -> Any:
        async def handle(*_: object) -> Any:
            names.append(name)
            return done("signal", ())

        return handle

    monkeypatch.setattr(owner_service, "HANDLERS", {name: reach(name) for name in HANDLERS})
    return names


ROLES = {
    None: set(),
    ClientRole.LOGS: METHODS.keys() - {"exec", "copy", "signal", "rotate", "open_debug"},
    ClientRole.EXEC: METHODS.keys() - {"rotate", "open_debug"},
    ClientRole.ADMIN: set(METHODS),
}


@pytest.mark.parametrize("role", ROLES)
def test_role_of_the_certificate_decides_before_anything_is_reached(
    bench: Bench, reached: list[str], role: ClientRole | None
) -> None:
    if role is not None:
        bench.greet(role)
    refused = set()
    for name, call in zip(CALLS, GOOD, strict=True):
        found = bench.refusal(call)
        if found != (0, ""):
            assert found == (RpcError.DENIED, "owner.role")
            refused.add(name)
    assert set(reached) == ROLES[role]
    assert refused == METHODS.keys() - ROLES[role]


@pytest.mark.usefixtures("reached")
def test_log_says_who_asked_for_what_and_who_was_refused(bench: Bench) -> None:
    bench.refusal(program_in("web"))
    bench.greet(ClientRole.LOGS)
    bench.refusal(program_in("web"))
    bench.refusal(Logs(container="web", since=0, follow=False))
    bench.refusal(Logs(container="web\nowner: boss", since=0, follow=False))
    assert bench.events == [
        "owner: nobody: exec refused, needs the role exec",
        "owner: ops? (logs) by X25519MLKEM768",
        "owner: ops? (logs): exec refused, needs the role exec",
        "owner: ops? (logs): logs web",
        "owner: ops? (logs): logs web?owner: boss",
    ]


@pytest.mark.parametrize("name", ACTING)
def test_manifest_allows_before_a_container_is_touched(bench: Bench, name: str) -> None:
    bench.greet(ClientRole.EXEC)
    assert bench.refusal(IN_A_CONTAINER[name]("db")) == (RpcError.DENIED, "owner.allow")
    bench.require_untouched()
    bench.refusal(IN_A_CONTAINER[name]("web"))
    assert len(bench.web.asked) == 1


@pytest.mark.parametrize("name", IN_A_CONTAINER)
def test_container_that_is_not_in_the_manifest_does_not_exist(bench: Bench, name: str) -> None:
    bench.guest.containers["other"] = Container()
    bench.greet(ClientRole.ADMIN)
    found = bench.refusal(IN_A_CONTAINER[name]("other"))
    assert found == (RpcError.BADREQ, "owner.container")
    assert bench.guest.containers["other"].asked == []


@pytest.mark.parametrize("name", [*ACTING, "attach"])
def test_container_that_has_not_started_is_asked_for_nothing(bench: Bench, name: str) -> None:
    bench.guest.containers.clear()
    bench.greet(ClientRole.EXEC)
    for container in ("web", "db"):  # how far the pod is comes before what the manifest allows
        found = bench.refusal(IN_A_CONTAINER[name](container))
        assert found == (RpcError.NOT_NOW, "owner.not_now")
    bench.require_untouched()


def test_whatever_the_kernel_says_is_an_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(bench.web, "open_file", fail)
    bench.greet(ClientRole.EXEC)
    assert bench.call(file_in("web")) == CallEnd(
        code=RpcError.FAILED, reason="owner.kernel", detail="errno 24 (EMFILE)"
    )


@pytest.mark.parametrize(
    "call",
    [
        Attest(nonce=bytes(31)),
        Logs(container="web", since=-1, follow=False),
        Events(since=-1, follow=True),
        Attach(container="w" * 64),
        Exec(container="web", args=("/bin/id",), tty=True, rows=1 << 16, columns=0),
        Exec(container="web", args=("/bin/\0id",), tty=False, rows=0, columns=0),
        Copy(container="web", path="/etc/\0", into=False, mode=0),
        Copy(container="web", path="/etc/hostname", into=True, mode=-1),
        Signal(container="web", number=-1),
    ],
)
def test_call_that_no_client_can_have_made_ends_the_connection(
    bench: Bench, reached: list[str], call: OwnerCall
) -> None:
    """The child has let it through, so it is not the child that was started."""
    bench.greet(ClientRole.ADMIN)
    told = list(bench.events)
    with pytest.raises(ChildError) as error:
        bench.call(call)
    assert error.value.reason == "child.protocol"
    assert (reached, bench.events) == ([], told)
    good = next(one for one in GOOD if type(one) is type(call))
    assert bench.refusal(good) == (0, "")


@pytest.mark.parametrize("number", [0, 65])
def test_number_that_is_no_signal_is_refused(bench: Bench, number: int) -> None:
    bench.greet(ClientRole.EXEC)
    found = bench.refusal(Signal(container="web", number=number))
    assert found == (RpcError.BADREQ, "owner.signal")
    bench.require_untouched()
    for good in (1, 64):
        assert bench.refusal(Signal(container="web", number=good)) == (0, "")
    assert bench.web.asked == ["signal 1", "signal 64"]


@pytest.mark.parametrize("call", [Rotate(), OpenDebug()])
@pytest.mark.parametrize("phase", [Phase.START, Phase.STOP])
def test_what_changes_the_pod_needs_one_that_runs(
    bench: Bench, call: OwnerCall, phase: Phase
) -> None:
    bench.greet(ClientRole.ADMIN)
    bench.state.phase = phase
    assert bench.refusal(call) == (RpcError.NOT_NOW, "owner.not_now")


def test_rotation_needs_a_pod_that_has_not_been_stopped_for_debugging(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rotate() -> int:
        return 2

    monkeypatch.setattr(bench.service.rotation, "rotate", rotate)
    bench.greet(ClientRole.ADMIN)
    assert bench.refusal(Rotate()) == (0, "")
    bench.guest.containers.clear()
    for call in (Rotate(), Signal(container="web", number=1)):
        end = bench.call(call)
        assert (end.reason, end.detail) == ("owner.not_now", "the pod does not run")


class Boundary:
    """A way into debug that says what it was told to."""

    def __init__(self, failure: ConfigError | None = None) -> None:
        self.is_busy = False
        self.opened: Any = None
        self.failure = failure

    async def open(self) -> Any:
        if self.failure is not None:
            raise self.failure
        return SimpleNamespace(ends_at=0.0, grant=SimpleNamespace(keep_pod=False))


def test_debug_opens_once(bench: Bench) -> None:
    bench.greet(ClientRole.ADMIN)
    bench.service.debug = cast("Any", Boundary())
    assert bench.refusal(OpenDebug()) == (0, "")
    bench.state.is_debug = True
    assert bench.refusal(OpenDebug()) == (RpcError.BUSY, "owner.debug")
    bench.state.is_debug, bench.service.debug.is_busy = False, True
    assert bench.refusal(OpenDebug()) == (RpcError.BUSY, "owner.debug")


def test_debug_that_the_configuration_forbids_is_denied_with_its_reason(bench: Bench) -> None:
    bench.greet(ClientRole.ADMIN)
    bench.service.debug = cast("Any", Boundary(ConfigError("debug.not_allowed", "no register")))
    assert bench.refusal(OpenDebug()) == (RpcError.DENIED, "debug.not_allowed")


def test_debug_that_comes_too_late_is_not_denied(bench: Bench) -> None:
    bench.greet(ClientRole.ADMIN)
    bench.service.debug = cast("Any", Boundary(ConfigError("owner.not_now", "the guest ends")))
    assert bench.refusal(OpenDebug()) == (RpcError.NOT_NOW, "owner.not_now")


def test_debug_environment_is_for_admins_and_only_while_it_is_open(bench: Bench) -> None:
    boundary = Boundary()
    bench.greet(ClientRole.ADMIN)
    assert bench.refusal(program_in(DEBUG_CONTAINER)) == (RpcError.NOT_NOW, "owner.debug")
    bench.service.debug = cast("Any", boundary)
    assert bench.refusal(program_in(DEBUG_CONTAINER)) == (RpcError.NOT_NOW, "owner.debug")
    boundary.opened = SimpleNamespace(environment=bench.debug)
    bench.greet(ClientRole.EXEC)
    assert bench.refusal(program_in(DEBUG_CONTAINER)) == (RpcError.DENIED, "owner.role")
    bench.require_untouched()
    bench.greet(ClientRole.ADMIN)
    assert bench.refusal(program_in(DEBUG_CONTAINER)) == (RpcError.FAILED, "kernel.clone3")
    assert bench.debug.asked == ["exec"]


@pytest.mark.parametrize("name", ["copy", "signal", "attach", "logs"])
def test_debug_environment_takes_programs_only(bench: Bench, name: str) -> None:
    bench.service.debug = cast("Any", Boundary())
    bench.service.debug.opened = SimpleNamespace(environment=bench.debug)
    bench.greet(ClientRole.ADMIN)
    found = bench.refusal(IN_A_CONTAINER[name](DEBUG_CONTAINER))
    assert found == (RpcError.BADREQ, "owner.container")
    bench.require_untouched()


def test_one_quote_at_a_time_and_the_next_when_that_has_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[int, str]] = []

    async def collect(*_: object) -> Any:
        if not found:
            found.append((-1, ""))
            answer: Any = await bench.service.answers(bench.caller)[Attest](GOOD[0])
            found.append((answer.value.end.code, answer.value.end.reason))
        raise KernelError(5, "tpm", "quote")

    monkeypatch.setattr(owner_service, "collect_evidence", collect)
    bench.greet(ClientRole.LOGS)
    assert bench.refusal(GOOD[0]) == (RpcError.FAILED, "kernel.tpm")
    assert found[1] == (RpcError.BUSY, "owner.attest")
    assert bench.refusal(GOOD[0]) == (RpcError.FAILED, "kernel.tpm")


@pytest.mark.parametrize("more", [0, 1])
def test_evidence_that_no_reply_can_carry_is_a_failure_of_this_call_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    """Its child says how long it is, and the reply's schema how long it may be."""

    async def collect(*_: object) -> bytes:
        return bytes(MAX_EVIDENCE_BYTES + more)

    monkeypatch.setattr(owner_service, "collect_evidence", collect)
    monkeypatch.setattr(
        bench.service.configured, "platform", SimpleNamespace(tee=Tee.TPM), raising=False
    )
    bench.greet(ClientRole.LOGS)
    found = bench.refusal(GOOD[0])
    assert found == ((RpcError.FAILED, "owner.evidence") if more else (0, ""))
