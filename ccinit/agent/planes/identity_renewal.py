"""Renewal: the guest's TLS identity is replaced before it expires, while the guest runs.

The guest attests anew and fetches the identity as it fetched the first one; the child `kbs` checks
it in the same way, and its chain has to end at the same root. New connections show the new
identity. Existing ones keep what their child has, and PID 1 wipes its copy of the old key at once,
since it passes a key to a connection's child only when it starts that. An unreachable KBS or a
refused identity changes nothing; the log says why, and the KBS is asked again (`renewal_schedule`).

A guest that its host had paused for a week wakes with a clock that is a week late and an identity
that clients refuse. Only they, or the KBS's next reply, can tell it so. The KBS is then asked
early, but no more often than after failures: anybody can claim that an identity has expired.
"""

from collections.abc import Callable

from ccinit.agent.guest import Guest
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.kbs_session import Grant, fetch_grants, want_identity, wipe_grants
from ccinit.agent.planes.renewal_schedule import LAST_PAUSE_SECONDS, seconds_to_renewal
from ccinit.attest.patience import random_fraction
from ccinit.boot.clock import format_utc
from ccinit.errors import CcinitError, as_known
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.kbs.tls_identity import VerifiedIdentity
from ccinit.formats.pod.resources import tls_identity_uri
from ccinit.kernel.clock import realtime
from ccinit.kernel.event_loop import Event, at_most, sleep


class IdentityRenewal:
    """Keeps the identity of one boot."""

    def __init__(
        self,
        *,
        guest: Guest,
        configured: Configured,
        attested: Attested,
        config: OwnerConfig,
        show: Callable[[Grant], None],
    ) -> None:
        """Args: show: sets the identity for new connections."""
        self._guest = guest
        self._configured = configured
        self._grants = attested.grants
        self._config = config
        self._show = show
        self._uri = tls_identity_uri(configured.manifest)

    async def keep(self) -> None:
        """Renew when due, until cancelled.

        An identity that was not checked is kept as it is: it came with the secrets of a launch, so
        there is no KBS to ask.
        """
        first = self._grants[self._uri].identity
        if first is None:
            return
        used, failures = first, 0
        while True:
            await self._wait(seconds_to_renewal(used, realtime(), failures, random_fraction()))
            try:
                used, failures = await self.renew(first.top_der), 0
            except (CcinitError, OSError) as error:  # OSError: no free descriptor or process
                failures += 1
                self._guest.event(f"identity: not renewed: {as_known(error)}")

    async def _wait(self, seconds: float) -> None:
        """Wait for `seconds`, or until the clock is doubted, but then still a minimum time."""
        self._guest.clock_doubted.clear()  # the KBS was asked since any earlier doubt
        least = min(seconds, LAST_PAUSE_SECONDS)
        await sleep(least)
        await wait_for(self._guest.clock_doubted, seconds - least)

    async def renew(self, top_der: bytes) -> VerifiedIdentity:
        """Fetch the identity, and show it if it has changed; return what its verification found.

        Args:
            top_der: the certificate that its chain has to end at, if not at the roots of the
                owner's clients.

        Raises:
            CcinitError: as `fetch_grants`, `tls_identity.…` included; nothing has changed.
        """
        wanted = want_identity(self._configured.manifest, self._config, top_der)
        fetched = await fetch_grants(self._guest, self._configured, (wanted,))
        grant = fetched[self._uri]
        if grant.identity is None:
            raise RuntimeError("an identity comes with what was found of it")
        if grant.secret.reveal() == self._grants[self._uri].secret.reveal():
            wipe_grants(fetched)
        else:
            self._replace(grant)
            ends = format_utc(grant.identity.not_after)
            self._guest.event(f"identity: renewed, ends {ends}")
        return grant.identity

    def _replace(self, grant: Grant) -> None:
        self._show(grant)
        self._grants[self._uri].secret.wipe()
        self._grants[self._uri] = grant


async def wait_for(event: Event, seconds: float) -> None:
    """Return when `event` is set, or after `seconds`."""
    async with at_most(seconds):
        await event.wait()
