"""PID 1's access to the secrets of a launch: opened for one child, then wiped.

They are wiped once read, and at the latest when the guest ends, however that happens. From then on
the guest has what it would have from a KBS.
"""

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages.kbs import KbsReply, LaunchRequest, Wanted
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.processes.roles import Role
from ccinit.errors import ChildError, ConfigError
from ccinit.formats.initdata.guest_config import EnvelopePolicy
from ccinit.kernel.efi_secret import open_secrets, wipe_secrets

_SECONDS = 60.0


async def read_launch_secrets(
    guest: Guest, configured: Configured, wanted: tuple[Wanted, ...]
) -> KbsReply:
    """Return all of `wanted` from the launch's secrets, in the same order, and wipe these.

    Raises:
        ConfigError: `kbs.envelope`, the document requires no envelopes, without which nothing says
            which secret is which resource.
        VerificationError: `launch_secret.…`, `envelope.kind`.
        FormatError: `launch_statement.…`, `launch_secret.…`, `envelope.…`.
        ChildError: `child.protocol`, other resources came back.
    """
    if configured.config.kbs.envelope is not EnvelopePolicy.REQUIRED:
        raise ConfigError("kbs.envelope", "secrets of a launch are envelopes, or have no name")
    try:
        with open_secrets() as fds:
            reply = await guest.children.run(
                Role.LAUNCH, LaunchRequest(wanted=wanted), KbsReply, seconds=_SECONDS, fds=fds
            )
    finally:
        wipe_secrets()
    brought = tuple((one.uri, not one.certificate_der) for one in reply.released)
    if brought != tuple((one.uri, one.identity is None) for one in wanted):
        raise ChildError("child.protocol", "the launch child brought other resources")
    return reply
