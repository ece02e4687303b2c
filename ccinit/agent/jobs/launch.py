"""Role `launch`: read the secrets of a launch that its owner approved; they come as descriptors.

They stand in for a KBS's replies, so the result has the same form. There is no session or token.
"""

from functools import partial

from ccinit.agent.jobs.messages.kbs import KbsReply, LaunchRequest, Released, Wanted
from ccinit.agent.jobs.released import release_policy_keys, verify_sealed_names
from ccinit.agent.processes.child import JobChannel
from ccinit.attest.launch import LaunchSecrets
from ccinit.errors import VerificationError
from ccinit.formats.kbs.launch_secret import (
    MAX_ENTRY_BYTES,
    STATEMENT,
    is_guid,
    parse_launch_statement,
)
from ccinit.formats.kbs.tls_identity import parse_tls_identity
from ccinit.kernel.efi_secret import read_secret
from ccinit.values import replace


def run(request: LaunchRequest, channel: JobChannel) -> KbsReply:
    """Do the job; descriptors are named by GUID."""
    entries = {name: read_secret(fd, MAX_ENTRY_BYTES) for name, fd in channel.fds.items()}
    if not all(map(is_guid, entries)):
        raise VerificationError("launch_secret.name", "a secret whose name is not a GUID")
    statement = parse_launch_statement(entries.pop(STATEMENT, b""))
    secrets = LaunchSecrets(entries.values())
    released = tuple(_release(secrets, wanted) for wanted in request.wanted)
    verify_sealed_names(request.wanted, released)
    policy_keys = release_policy_keys(request.wanted, released, partial(_release, secrets))
    secrets.end()
    return KbsReply(released=released, policy_keys=policy_keys, date=statement.date)


def _release(secrets: LaunchSecrets, wanted: Wanted) -> Released:
    envelope = secrets.take(wanted.uri, wanted.kind)
    released = Released(uri=wanted.uri, data=envelope.data, create=envelope.create)
    if wanted.identity is None:
        return released
    return replace(released, certificate_der=parse_tls_identity(envelope.data).certificate_der)
