"""One client of the owner plane, as PID 1 sees it: who it is, and what its calls have started."""

from collections.abc import Callable, Coroutine

from ccinit.agent.planes.call_pace import CallPace
from ccinit.agent.processes.channel import printable
from ccinit.errors import CcinitError
from ccinit.formats.planes.host_rpc import RpcError
from ccinit.formats.planes.owner_rpc import METHODS, ClientRole
from ccinit.formats.planes.tls_hello import group_name
from ccinit.kernel.event_loop import Event, TaskGroup
from ccinit.owner.messages import Greeting


class RefusedCall(Exception):  # noqa: N818  # an answer, not a fault
    """A call is not carried out, and nothing has changed."""

    def __init__(self, code: RpcError, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.code, self.reason, self.detail = code, reason, detail


class Caller:
    """One connection's client: unknown until its child has completed the handshake.

    Attributes:
        certificate_der: the guest's certificate that it was shown; `attest` binds it to evidence.
        tasks: what its calls have started; a group that is entered while the connection lasts.
        greeted: set once the client is known.
        streams: how many of its calls are still streaming.
        pace: at which its calls are answered.
    """

    def __init__(self, event: Callable[[str], None], certificate_der: bytes) -> None:
        """Args: event: takes a line for the log."""
        self.certificate_der = certificate_der
        self.tasks = TaskGroup()
        self.greeted = Event()
        self.streams = 0
        self.pace = CallPace()
        self._event = event
        self._greeting: Greeting | None = None
        self._ending = Event()
        self._why: CcinitError | None = None

    @property
    def is_known(self) -> bool:
        """Whether the handshake is done."""
        return self._greeting is not None

    def greet(self, greeting: Greeting) -> None:
        """Record who the client is, once."""
        self._greeting = greeting
        self.greeted.set()
        self._event(f"owner: {self} by {group_name(greeting.group)}")

    def end(self, why: CcinitError) -> None:
        """Have the connection end, for this reason, unless it has ended."""
        self._why = why
        self._ending.set()

    async def until_ended(self) -> None:
        """Wait until the connection has to end.

        Raises:
            CcinitError: why.
        """
        while self._why is None:
            await self._ending.wait()
        raise self._why

    def start(self, stream: Coroutine[object, None, None], name: str) -> None:
        """Run a call's stream until it ends or the connection does."""
        self.streams += 1
        self.tasks.start(self._run_stream(stream), name)

    async def _run_stream(self, stream: Coroutine[object, None, None]) -> None:
        try:
            await stream
        finally:
            self.streams -= 1

    def log_or_refuse(self, method: str, target: str) -> None:
        """Log a call, or refuse it.

        Raises:
            RefusedCall: `owner.role`, the role in the client's certificate does not suffice.
        """
        self.require_role(METHODS[method].role, method)
        self._event(f"owner: {self}: {method} {target}")

    def require_role(self, needed: ClientRole, what: str) -> None:
        """Refuse a client with a lesser role than `what` needs.

        Raises:
            RefusedCall: `owner.role`.
        """
        if self._greeting is None or not self._greeting.role.includes(needed):
            self._event(f"owner: {self}: {what} refused, needs the role {needed}")
            raise RefusedCall(RpcError.DENIED, "owner.role", f"{what} needs the role {needed}")

    def __str__(self) -> str:
        if self._greeting is None:
            return "nobody"
        return f"{printable(self._greeting.subject)} ({self._greeting.role})"
