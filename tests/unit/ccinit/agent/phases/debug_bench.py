"""A guest in RUN whose debug can be opened, made of the real small parts."""

from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ccinit.agent.phases import debug
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.debug import DebugBoundary, DebugSession
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.state import BootState
from ccinit.agent.teardown import OWNER_PLANE_STEP, Teardown, undoing
from ccinit.errors import (
    CcinitError,
)
from ccinit.formats.disk.verity import RootHash, Salt, VerityParameters
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import DebugConfig
from ccinit.formats.kbs.debug_grant import DebugGrant
from ccinit.formats.kbs.resource_uri import KbsUri, parse_resource_uri
from ccinit.formats.planes.host_rpc import Phase
from ccinit.formats.pod.resources import tls_identity_uri
from ccinit.kernel.event_loop import EventLoop
from ccinit.kernel.task import Event, sleep
from ccinit.secret import Secret

if TYPE_CHECKING:
    from ccinit.agent.guest import Guest

ROOT = RootHash(b"\xab" * 32)
TOOLS = VerityParameters(root_hash=ROOT, salt=Salt(bytes(32)), data_blocks=300)
NOW = 1_800_000_000
GRANT = DebugGrant(evidence_key=bytes(32), expires_s=NOW + 600, tools_root=ROOT, keep_pod=False)
SECRET_URI = parse_resource_uri("kbs:///ccinit/shop/secret")
MANIFEST = SimpleNamespace(name="shop")
IDENTITY_URI = tls_identity_uri(cast("Any", MANIFEST))


class Measurement:
    """Says what it was asked to measure, and may fail."""

    def __init__(self, steps: list[str]) -> None:
        self.has_register = True
        self.failure: CcinitError | None = None
        self.then: Callable[[], object] = lambda: None
        self._steps = steps

    async def measure_debug(self, event: object) -> None:
        await sleep(0)
        if self.failure is not None:
            raise self.failure
        self._steps.append(f"measured {event}".split("{", maxsplit=1)[0].strip())
        self.then()


class Bench:
    """A guest in RUN with a pod of one volume and one container, made of the real small parts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = EventLoop()
        self.steps: list[str] = []
        self.events: list[str] = []
        self.stopping = Event()
        self.measurement = Measurement(self.steps)
        self.answer: DebugGrant | CcinitError = GRANT
        self.mount_failure: CcinitError | OSError | None = None
        self.may_mount = Event()
        self.may_mount.set()
        self.state = BootState()
        self.state.enter(Phase.RUN)
        self.teardown = Teardown()
        for name in ("secrets", OWNER_PLANE_STEP, "volume scratch", "container web"):
            self.teardown.push(name, undoing(lambda name=name: self.steps.append(name)))  # type: ignore[misc]
        self.grants: dict[KbsUri, Grant] = {
            uri: Grant(secret=Secret(b"secret"), create=False) for uri in (SECRET_URI, IDENTITY_URI)
        }
        self.config = SimpleNamespace(
            debug=DebugConfig(tools=TOOLS), kbs=SimpleNamespace(passport=None)
        )
        guest = SimpleNamespace(
            loop=self.loop,
            state=self.state,
            teardown=self.teardown,
            containers={"web": object()},
            event=self.events.append,
            service=SimpleNamespace(stopping=self.stopping),
        )
        configured = SimpleNamespace(
            config=self.config,
            manifest=MANIFEST,
            measurement=self.measurement,
            platform=SimpleNamespace(tee=Tee.TPM),
        )
        self.guest = cast("Guest", guest)
        self.boundary = DebugBoundary(
            self.guest, cast("Any", configured), Attested(grants=self.grants)
        )
        monkeypatch.setattr(debug, "find_tools_disk", lambda _configured: "the disk")
        monkeypatch.setattr(debug, "request_debug_grant", self.request)
        monkeypatch.setattr(debug, "_open_environment", self.mount)

    async def request(self, _guest: object, _configured: object) -> tuple[DebugGrant, int]:
        await sleep(0)
        if isinstance(self.answer, CcinitError):
            raise self.answer
        return self.answer, NOW

    async def mount(self, _guest: object, permitted: Any) -> str:
        await self.may_mount.wait()
        if self.mount_failure is not None:
            raise self.mount_failure
        self.steps.append(f"mounted {permitted.disk}")
        return "the environment"

    def run(self, body: Callable[[], Coroutine[object, None, Any]]) -> Any:
        return self.loop.run(body())

    def open(self) -> DebugSession:
        opened: DebugSession = self.run(self.boundary.open)
        return opened

    @property
    def secrets(self) -> list[bool]:
        """Whether each secret is still there: the pod's, the owner plane's."""
        return [len(self.grants[uri].secret) > 0 for uri in (SECRET_URI, IDENTITY_URI)]

    def require_untouched(self) -> None:
        assert self.steps == []
        assert self.state.report()[2:] == (1, 0)
        assert not self.stopping.is_set()
        assert self.secrets == [True, True]
        assert list(self.guest.containers) == ["web"]
        assert not self.boundary.is_busy
        assert self.boundary.opened is None
