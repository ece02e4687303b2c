"""Opening debug: from the owner's call to a shell, in an order that cannot be reversed.

    nothing changes   the pod runs, debug is possible here, the declared tools are there;
                      a grant of the KBS for this very session, with those tools
    the boundary      PCR 15 (or what the platform has) is extended, the host sees one bit
    what is secret    the pod ends, its disks close, keys are wiped; not with `keep_pod`
    what is open      the tools are mounted, `exec` reaches them, until the grant ends the guest

A call refused before the boundary has changed nothing. From the boundary on there is no way back:
opening goes on even if the connection that asked for it ends, and any failure ends the guest. From
then on the KBS sees a non-zero PCR 15 and releases nothing more to this boot, not even a second
grant.

PID 1 loads this module only when debug is asked for.
"""

from functools import partial

from ccinit.agent.guest import Guest
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.debug_tools import TOOLS_DISK, find_tools_disk
from ccinit.agent.phases.kbs_session import request_debug_grant, wipe_grants
from ccinit.agent.platform.measurement import debug_opens
from ccinit.agent.teardown import OWNER_PLANE_STEP, undoing
from ccinit.boot.directories import make_directory
from ccinit.errors import CcinitError, ChildError, ConfigError, VerificationError, as_known
from ccinit.formats.disk.verity import VerityParameters
from ccinit.formats.kbs.debug_grant import MAX_GRANT_SECONDS, DebugGrant
from ccinit.formats.planes.host_rpc import Phase
from ccinit.formats.pod.resources import tls_identity_uri
from ccinit.formats.sealed_log import Kind
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.clock import boottime
from ccinit.kernel.dm import DmControl
from ccinit.kernel.event_loop import sleep
from ccinit.run.crun import Crun
from ccinit.run.debug_environment import DebugEnvironment, open_environment
from ccinit.unlock.filesystem import LOST_WRITE
from ccinit.unlock.verity_volume import activate_verity
from ccinit.values import frozen

_FOLDER = "/run/ccinit/debug"


@frozen
class DebugSession:
    """What is open, and until when.

    Attributes:
        ends_at: on the clock of `boottime`.
    """

    environment: DebugEnvironment
    grant: DebugGrant
    ends_at: float


@frozen
class _Permitted:
    """What the checks have established."""

    grant: DebugGrant
    tools: VerityParameters
    disk: BlockDevice
    ends_at: float


class DebugBoundary:
    """The only way into debug, at most once in a guest's life.

    Attributes:
        is_busy: a call is being carried out.
        opened: what is open.
    """

    def __init__(self, guest: Guest, configured: Configured, attested: Attested) -> None:
        self.is_busy = False
        self.opened: DebugSession | None = None
        self._guest = guest
        self._configured = configured
        self._attested = attested

    async def open(self) -> DebugSession:
        """Open debug if every check passes.

        Raises:
            ConfigError: `debug.tools`, `debug.not_allowed`; nothing has changed.
            VerificationError, FormatError, PeerError, DeadlineError: `debug.…`, `kbs.…`; likewise.
            ChildError: likewise; `child.protocol`, the grant is not valid now.
            CcinitError: the boundary could not be measured; or a step after it failed, and the
                guest ends.
        """
        self.is_busy = True
        try:
            permitted = await self._permit()
        except BaseException:
            self.is_busy = False
            raise
        # Not the caller's task: once begun, this completes even if the client goes away.
        task = self._guest.loop.start(self._cross(permitted), "debug opening")
        outcome = await task.join()
        if isinstance(outcome, CcinitError):
            raise outcome
        return outcome

    async def _permit(self) -> _Permitted:
        """Make every check, and change nothing."""
        config = self._configured.config
        disk = find_tools_disk(self._configured)
        if config.debug.tools is None or disk is None:
            raise ConfigError("debug.tools", "ccinit.toml declares no [debug.tools]")
        # Another service's token does not show PCR 15 or RTMR 3.
        is_shown = self._configured.measurement.has_register and config.kbs.passport is None
        if not is_shown and not config.debug.allowed:
            raise ConfigError(
                "debug.not_allowed",
                f"{self._configured.platform.tee} shows the KBS no register that would tell, "
                "and ccinit.toml does not say debug.allowed = true",
            )
        grant, now_s = await request_debug_grant(self._guest, self._configured)
        left = grant.expires_s - now_s
        if not 0 < left <= MAX_GRANT_SECONDS:  # its child has verified that
            raise ChildError("child.protocol", f"a grant for {left} s more")
        ends_at = boottime() + left
        if grant.tools_root != config.debug.tools.root_hash:
            raise VerificationError("debug.tools_root", "the grant names other tools than declared")
        return _Permitted(grant=grant, tools=config.debug.tools, disk=disk, ends_at=ends_at)

    async def _cross(self, permitted: _Permitted) -> DebugSession | CcinitError:
        """Cross the boundary and open debug; return what failed, for the caller if still there."""
        guest, grant = self._guest, permitted.grant
        try:
            _require_running(guest)  # the KBS may have taken its time
            await self._configured.measurement.measure_debug(debug_opens(grant))
            guest.state.open_debug()
            guest.loop.start(_expire(guest, permitted.ends_at), "debug expiry")
            _require_running(guest)
            if not grant.keep_pod:
                await self._stop_pod()
                _require_running(guest)
            environment = await _open_environment(guest, permitted)
        except (CcinitError, OSError) as error:  # a bare OSError is a refusal by the kernel, too
            known = as_known(error)
            guest.event(f"debug: failed: {known}")
            if guest.state.is_debug:
                guest.service.stopping.set()
            return known
        finally:
            self.is_busy = False
        self.opened = DebugSession(environment=environment, grant=grant, ends_at=permitted.ends_at)
        guest.event(f"debug: open for {permitted.ends_at - boottime():.0f} s")
        return self.opened

    async def _stop_pod(self) -> None:
        """End the pod, close its disks and wipe its keys; owner plane and log keep theirs."""
        guest = self._guest
        guest.event("debug: the pod is stopped")
        failures = await guest.teardown.run(above=OWNER_PLANE_STEP)
        identity = tls_identity_uri(self._configured.manifest)
        grants = self._attested.grants
        wipe_grants({uri: grant for uri, grant in grants.items() if uri != identity})
        guest.containers.clear()
        for name, error in failures:
            guest.event(f"debug: teardown of {name} failed: {error}")
        # A volume that has lost a write is closed nevertheless, and worth debugging.
        not_closed = [error for _, error in failures if error.reason != LOST_WRITE]
        if not_closed:
            raise not_closed[0]


def _require_running(guest: Guest) -> None:
    """Refuse to open anything in a guest that has begun to end meanwhile."""
    if guest.state.phase is not Phase.RUN:
        raise ConfigError("owner.not_now", "the guest ends")


async def _open_environment(guest: Guest, permitted: _Permitted) -> DebugEnvironment:
    """Mount the tools and start the debug environment."""
    control = DmControl()
    guest.teardown.push("debug device-mapper", undoing(control.close))
    root = make_directory(f"{make_directory(_FOLDER, 0o700)}/root", 0o700)
    stack = activate_verity(control, TOOLS_DISK, permitted.disk, permitted.tools, root)
    guest.teardown.push("debug tools", undoing(stack.close))
    log = partial(guest.log.append, Kind.RUNTIME, "crun")
    crun = Crun(state_dir=make_directory(f"{_FOLDER}/crun", 0o700), log=log)
    environment = await open_environment(crun, root)
    guest.teardown.push("debug environment", environment.close)
    return environment


async def _expire(guest: Guest, ends_at: float) -> None:
    """End the guest when its grant expires."""
    await sleep(max(0.0, ends_at - boottime()))
    guest.event("debug: the grant has ended, and with it the guest")
    guest.service.stopping.set()
