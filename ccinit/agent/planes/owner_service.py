"""What each call of the owner plane does in this guest.

The child has checked a call's form, so that it can tell its client. PID 1 checks, in this order:
the form again, since the child may be compromised; whether the client's role may make the call at
all (`owner.role`); whether the pod is far enough (`owner.not_now`); whether the measured manifest
allows it (`owner.allow`). Only then does anything happen, and the log says who asked. Every method
is one function in one table, whose keys are exactly those of
`ccinit.formats.planes.owner_rpc.METHODS`.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ccinit.agent.guest import Guest
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.evidence import collect_evidence
from ccinit.agent.phases.rotation import Rotation
from ccinit.agent.planes.metrics import render_metrics
from ccinit.agent.planes.owner_caller import Caller, RefusedCall
from ccinit.agent.planes.owner_copies import OpenCopies
from ccinit.agent.planes.owner_streams import (
    EntryFilter,
    attend,
    done,
    follow_entries,
    follow_output,
    of_kinds,
    open_outgoing,
    output_of,
    refused,
    streaming,
)
from ccinit.agent.processes.channel import printable
from ccinit.agent.processes.conversation import Answer, Answers
from ccinit.errors import CcinitError, ChildError, ConfigError, LimitExceededError, errno_text
from ccinit.formats.planes.host_rpc import Phase, RpcError
from ccinit.formats.planes.owner_rpc import (
    DEBUG_CONTAINER,
    MAX_CALLS,
    MAX_EVIDENCE_BYTES,
    METHODS,
    Stream,
    are_valid,
    report_data,
)
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.clock import boottime
from ccinit.kernel.descriptor import close_all
from ccinit.kernel.event_loop import sleep
from ccinit.kernel.pipes import open_pipes
from ccinit.kernel.process import Process
from ccinit.owner.messages import (
    CALLS,
    Attach,
    Attest,
    Copy,
    Events,
    Exec,
    Flow,
    Logs,
    Metrics,
    OpenDebug,
    OwnerCall,
    Rotate,
    Signal,
)
from ccinit.run.supervisor import Supervisor

if TYPE_CHECKING:
    from ccinit.agent.phases.debug import DebugBoundary

_LOG_KINDS = frozenset({Kind.STDOUT, Kind.STDERR, Kind.KERNEL, Kind.RUNTIME})
_EVENT_KINDS = frozenset({Kind.EVENT, Kind.CODE})
_LAST_SIGNAL = 64


class Executor(Protocol):
    """Where programs can be started: a container of the pod, or the debug environment."""

    async def exec(
        self, arguments: tuple[str, ...], *, stdin: int, stdout: int, stderr: int
    ) -> Process:
        """Start a program with these streams."""

    async def exec_on_terminal(
        self, arguments: tuple[str, ...], *, rows: int, columns: int
    ) -> tuple[Process, int]:
        """Start a program on a terminal of its own; return both."""


class OwnerService:
    """Answers the owner.

    Attributes:
        is_attesting: a quote is being made for a client; others who ask are refused, not queued.
        copies: of all clients, until the pod's disks are closed.
        rotation: of the pod's secrets.
        debug: the way into debug, once a client has asked for it.
    """

    def __init__(self, *, guest: Guest, configured: Configured, attested: Attested) -> None:
        self.guest = guest
        self.configured = configured
        self.attested = attested
        self.copies = OpenCopies(guest)
        self.rotation = Rotation(guest, configured, attested)
        self.is_attesting = False
        self.debug: DebugBoundary | None = None

    def answers(self, caller: Caller) -> Answers:
        """Return the functions that answer the questions of one connection's child."""
        return {kind: partial(self._answer, name, caller) for name, kind in CALLS.items()}

    async def _answer(self, name: str, caller: Caller, call: OwnerCall) -> Answer:
        params = METHODS[name].params
        if not are_valid(params, tuple(getattr(call, field.name) for field in params)):
            raise ChildError("child.protocol", f"parameters that {name} does not have")
        if caller.streams >= MAX_CALLS:  # the child counts longer: it tells its client of the end
            raise ChildError("child.protocol", f"{name} beside {caller.streams} calls")
        await sleep(caller.pace.wait_seconds(boottime()))
        try:
            caller.log_or_refuse(name, printable(getattr(call, "container", "")))
            return await HANDLERS[name](self, caller, call)
        except RefusedCall as error:
            return refused(error.code, error.reason, error.detail)
        except CcinitError as error:
            return refused(RpcError.FAILED, error.reason, error.detail)
        except OSError as error:
            return refused(RpcError.FAILED, "owner.kernel", errno_text(error.errno))

    async def attest(self, caller: Caller, call: Attest) -> Answer:
        """Make evidence over the caller's nonce and our certificate, never over its bytes alone."""
        if self.is_attesting:
            raise RefusedCall(RpcError.BUSY, "owner.attest", "one quote at a time")
        self.is_attesting = True
        try:
            expected = report_data(call.nonce, caller.certificate_der)
            evidence = await collect_evidence(self.guest, self.configured, expected)
        finally:
            self.is_attesting = False
        if len(evidence) > MAX_EVIDENCE_BYTES:
            detail = f"expected at most {MAX_EVIDENCE_BYTES} bytes, found {len(evidence)}"
            raise LimitExceededError("owner.evidence", detail)
        return done("attest", (self.configured.platform.tee.value, evidence))

    async def logs(self, caller: Caller, call: Logs) -> Answer:
        """Stream entries of one container, or of everything but the guest's own events."""
        if call.container:
            self._require_known(call.container)
            wanted = output_of(call.container)
        else:
            wanted = of_kinds(_LOG_KINDS)
        return self._follow(caller, "logs", call.since, wanted, follow=call.follow)

    async def events(self, caller: Caller, call: Events) -> Answer:
        """Stream the guest's own events."""
        wanted = of_kinds(_EVENT_KINDS)
        return self._follow(caller, "events", call.since, wanted, follow=call.follow)

    async def metrics(self, _caller: Caller, _call: Metrics) -> Answer:
        """Return all metrics."""
        return done("metrics", (render_metrics(self.guest).encode(),))

    async def attach(self, caller: Caller, call: Attach) -> Answer:
        """Stream what a container writes from now on."""
        container = self._container(call.container)
        out, err, end = open_outgoing(3)
        outputs = {Kind.STDOUT: out.writer, Kind.STDERR: err.writer}
        task = follow_output(
            self.guest.log.recent,
            outputs,
            output_of(call.container),
            lambda: container.life.is_final,
            end=end.writer,
        )
        caller.start(task, "owner attach")
        return streaming(
            (Flow.OUTPUT, Stream.OUTPUT, out.reader),
            (Flow.OUTPUT, Stream.ERROR, err.reader),
            (Flow.END, 0, end.reader),
        )

    async def exec(self, caller: Caller, call: Exec) -> Answer:
        """Run another program in a container."""
        container = self._executor(caller, call.container)
        if call.tty:
            return await _exec_on_terminal(container, caller, call)
        return await _exec_on_pipes(container, caller, call)

    async def copy(self, caller: Caller, call: Copy) -> Answer:
        """Open a file for the child, which transfers its bytes."""
        container = self._allowed(call.container)
        if self.copies.are_over:
            raise RefusedCall(RpcError.NOT_NOW, "owner.not_now", "the pod has ended")
        end = self.copies.begin(caller, into=call.into)
        try:
            file = container.open_file(call.path, into=call.into, mode=call.mode)
        except BaseException:
            os.close(end)
            raise
        port = (Flow.INPUT, Stream.INPUT) if call.into else (Flow.OUTPUT, Stream.OUTPUT)
        # END first: the kernel closes what a killed child has open in the other order.
        return streaming((Flow.END, 0, end), (*port, file))

    async def signal(self, _caller: Caller, call: Signal) -> Answer:
        """Send a signal to a container's first process."""
        if not 0 < call.number <= _LAST_SIGNAL:
            raise RefusedCall(RpcError.BADREQ, "owner.signal", f"no signal {call.number}")
        self._allowed(call.container).send_signal(call.number)
        return done("signal", ())

    async def rotate(self, _caller: Caller, _call: Rotate) -> Answer:
        """Bring the pod's secret files up to date."""
        if self.guest.state.phase is not Phase.RUN or not self.guest.containers:
            raise RefusedCall(RpcError.NOT_NOW, "owner.not_now", "the pod does not run")
        return done("rotate", (await self.rotation.rotate(),))

    async def open_debug(self, _caller: Caller, _call: OpenDebug) -> Answer:
        """Open debug; see `ccinit.agent.phases.debug`, which is loaded for it."""
        from ccinit.agent.phases.debug import DebugBoundary  # noqa: PLC0415

        if self.guest.state.phase is not Phase.RUN:
            raise RefusedCall(RpcError.NOT_NOW, "owner.not_now", "the pod does not run")
        if self.debug is None:
            self.debug = DebugBoundary(self.guest, self.configured, self.attested)
        if self.debug.is_busy or self.guest.state.is_debug:
            raise RefusedCall(RpcError.BUSY, "owner.debug", "debug is open, or about to be")
        try:
            opened = await self.debug.open()
        except ConfigError as error:
            # NOT_NOW if the guest has begun to end meanwhile; its configuration did not refuse.
            code = RpcError.NOT_NOW if error.reason == "owner.not_now" else RpcError.DENIED
            raise RefusedCall(code, error.reason, error.detail) from error
        seconds = max(0, int(opened.ends_at - boottime()))
        return done("open_debug", (seconds, opened.grant.keep_pod))

    def _follow(
        self, caller: Caller, method: str, since: int, wanted: EntryFilter, *, follow: bool
    ) -> Answer:
        out, end = open_outgoing(2)
        recent = self.guest.log.recent
        task = follow_entries(
            recent, since, wanted, method=method, follow=follow, output=out.writer, end=end.writer
        )
        caller.start(task, f"owner {method}")
        return streaming((Flow.OUTPUT, Stream.OUTPUT, out.reader), (Flow.END, 0, end.reader))

    def _executor(self, caller: Caller, name: str) -> Executor:
        if name != DEBUG_CONTAINER:
            return self._allowed(name)
        caller.require_role(METHODS["open_debug"].role, f"exec in {DEBUG_CONTAINER}")
        if self.debug is None or self.debug.opened is None:
            raise RefusedCall(RpcError.NOT_NOW, "owner.debug", "debug is not open")
        return self.debug.opened.environment

    def _require_known(self, name: str) -> None:
        if all(one.name != name for one in self.configured.manifest.containers):
            raise RefusedCall(RpcError.BADREQ, "owner.container", "not in the manifest")

    def _container(self, name: str) -> Supervisor:
        self._require_known(name)
        container = self.guest.containers.get(name)
        if container is None:
            raise RefusedCall(RpcError.NOT_NOW, "owner.not_now", "the pod does not run")
        return container

    def _allowed(self, name: str) -> Supervisor:
        container = self._container(name)
        if name not in self.configured.manifest.allow.exec:
            raise RefusedCall(RpcError.DENIED, "owner.allow", "not in [allow].exec of the manifest")
        return container


async def _exec_on_pipes(container: Executor, caller: Caller, call: Exec) -> Answer:
    stdin, stdout, stderr, end = open_pipes(4)
    try:
        process = await container.exec(
            call.args, stdin=stdin.reader, stdout=stdout.writer, stderr=stderr.writer
        )
    except BaseException:
        close_all((stdin.writer, stdout.reader, stderr.reader, end.reader, end.writer))
        raise
    finally:
        close_all((stdin.reader, stdout.writer, stderr.writer))
    caller.start(attend(process, end=end.writer), "owner exec")
    return streaming(
        (Flow.INPUT, Stream.INPUT, stdin.writer),
        (Flow.OUTPUT, Stream.OUTPUT, stdout.reader),
        (Flow.OUTPUT, Stream.ERROR, stderr.reader),
        (Flow.END, 0, end.reader),
    )


async def _exec_on_terminal(container: Executor, caller: Caller, call: Exec) -> Answer:
    (end,) = open_pipes(1)
    try:
        process, terminal = await container.exec_on_terminal(
            call.args, rows=call.rows, columns=call.columns
        )
    except BaseException:
        end.close()
        raise
    caller.start(attend(process, end=end.writer), "owner exec")
    return streaming(
        (Flow.INPUT, Stream.INPUT, terminal),
        (Flow.OUTPUT, Stream.OUTPUT, terminal),
        (Flow.RESIZE, Stream.RESIZE, terminal),
        (Flow.END, 0, end.reader),
    )


HANDLERS: Mapping[str, Callable[..., Awaitable[Answer]]] = {
    "attest": OwnerService.attest,
    "logs": OwnerService.logs,
    "events": OwnerService.events,
    "metrics": OwnerService.metrics,
    "attach": OwnerService.attach,
    "exec": OwnerService.exec,
    "copy": OwnerService.copy,
    "signal": OwnerService.signal,
    "rotate": OwnerService.rotate,
    "open_debug": OwnerService.open_debug,
}
