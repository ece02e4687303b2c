"""ATTEST: the resources that the KBS releases to this boot, and the time that it tells.

1. what the manifest names is fetched in one session with the KBS (`kbs_session`); or it is read
   from the secrets of the launch (`launch_secrets`);
2. what was released is wrapped in `Secret`s, one for each use, which are wiped when the guest ends;
3. the clock is set to the time that came with them;
4. the log's key is bound, if that was not possible before, and mixed with the owner's.
"""

from collections.abc import Mapping

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages.kbs import CounterStep, Wanted
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.kbs_session import (
    Grant,
    request_resources,
    take_grants,
    want,
    want_identity,
    wipe_grants,
)
from ccinit.agent.phases.launch_secrets import read_launch_secrets
from ccinit.agent.phases.log_binding import bind_log
from ccinit.agent.teardown import undoing
from ccinit.boot.clock import format_utc, read_build_time, set_clock
from ccinit.errors import ConfigError
from ccinit.formats.evidence.log_key import encode_log_evidence
from ccinit.formats.evidence.tee import is_judged_at_launch
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.kbs.launch_secret import vouch_for_log
from ccinit.formats.kbs.resource_uri import KbsUri, PluginUri
from ccinit.formats.planes.host_rpc import Phase
from ccinit.formats.pod.manifest import PodManifest
from ccinit.formats.pod.resources import (
    log_psk_uri,
    name_counters,
    name_policies,
    name_resources,
)
from ccinit.kernel.event_loop import Lock
from ccinit.pull.messages.fetch import PolicyKey
from ccinit.values import field, frozen, replace


@frozen
class Attested:
    """What the owner's KBS released to this boot.

    Attributes:
        grants: by URI; rotation replaces secrets in it, renewal the TLS identity.
        rotating: held during a rotation.
        uneven: secrets that a rotation failed to replace everywhere: some of their files may differ
            from the grant.
        policy_keys: public keys and roots that image policies name.
        counters: the KBS's values of the volumes' rollback counters.
    """

    grants: dict[KbsUri, Grant]
    policy_keys: tuple[PolicyKey, ...] = ()
    counters: Mapping[PluginUri, int] = field(default_factory=dict)
    rotating: Lock = field(default_factory=Lock)
    uneven: set[KbsUri] = field(default_factory=set)


async def attest(guest: Guest, configured: Configured) -> Attested:
    """Attest this guest; see the module's steps.

    Raises:
        PeerError, VerificationError, FormatError, DeadlineError: `kbs.…`, `net.…`, `envelope.…`.
    """
    wanted = plan_resources(configured.manifest, configured.config.owner)
    counters = plan_counters(configured.manifest)
    tee = configured.platform.tee
    if is_judged_at_launch(tee):
        if counters:
            raise ConfigError("attest.launch_only", f"on {tee} nobody keeps a rollback counter")
        reply = await read_launch_secrets(guest, configured, wanted)
    else:
        reply = await request_resources(
            guest, configured, wanted, counters=counters, has_clock=False
        )
    grants = take_grants(reply)
    guest.teardown.push("secrets", undoing(lambda: wipe_grants(grants)))
    set_clock(reply.date, read_build_time())
    psk = grants[log_psk_uri(configured.manifest)].secret
    if is_judged_at_launch(tee):
        voucher = vouch_for_log(psk.reveal(), guest.log.binding)
        guest.log.bind(encode_log_evidence(tee, voucher))
    else:
        await bind_log(guest, configured, Phase.ATTEST)
    guest.log.mix(psk)
    psk.wipe()  # it is needed only once
    # The host may show a whole log of an earlier boot in place of this one's.
    guest.event(f"clock: set to {format_utc(reply.date)}")
    policy_keys = tuple(
        PolicyKey(resource=str(released.uri), data=released.data) for released in reply.policy_keys
    )
    steps = zip(counters, reply.counters, strict=True)
    known = {step.uri: counter for step, counter in steps}
    return Attested(grants=grants, policy_keys=policy_keys, counters=known)


def plan_resources(manifest: PodManifest, owner: OwnerConfig | None = None) -> tuple[Wanted, ...]:
    """List what this pod needs from the KBS; see `ccinit.formats.pod.resources`."""
    named = name_resources(manifest, with_identity=owner is not None)
    policies = name_policies(manifest)
    wanted = tuple(replace(one, is_policy=one.uri in policies) for one in want(manifest, named))
    if owner is None:
        return wanted
    identity = want_identity(manifest, owner)
    return tuple(identity if one.uri == identity.uri else one for one in wanted)


def plan_counters(manifest: PodManifest) -> tuple[CounterStep, ...]:
    """List the rollback counters to read in the session that fetches the resources."""
    return tuple(CounterStep(uri=uri) for uri in name_counters(manifest))
