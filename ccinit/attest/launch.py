"""Launch secrets in place of a KBS: for SEV and SEV-ES, which sign no report for a guest.

The owner judged this launch before its first instruction and supplied all that the pod needs. So
these secrets have to pass the same checks as a KBS's replies: each is an envelope for exactly the
URI and kind that the measured manifest names. None may be missing, since nothing can be fetched
later, and none may be left over, since the guest could not say where it comes from.
"""

from collections.abc import Iterable, Sequence

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, parse_envelope
from ccinit.formats.kbs.resource_uri import KbsUri


class LaunchSecrets:
    """The envelopes of one launch; each is taken once."""

    def __init__(self, entries: Iterable[bytes]) -> None:
        """Parse every entry.

        Raises:
            FormatError: `envelope.…`, `launch_secret.duplicate`.
        """
        self._envelopes: dict[str, Envelope] = {}
        for entry in entries:
            envelope = parse_envelope(entry)
            if str(envelope.uri) in self._envelopes:
                raise FormatError("launch_secret.duplicate", f"{envelope.uri} occurs twice")
            self._envelopes[str(envelope.uri)] = envelope

    def take(self, uri: KbsUri, kind: EnvelopeKind) -> Envelope:
        """Return the envelope of a resource that was not taken yet.

        Raises:
            VerificationError: `launch_secret.absent`, `envelope.kind`.
        """
        envelope = self._envelopes.pop(str(uri), None)
        if envelope is None:
            raise VerificationError("launch_secret.absent", f"the launch was given no {uri}")
        if envelope.kind is not kind:
            raise VerificationError(
                "envelope.kind", f"asked for {kind}, the secret is {envelope.kind}"
            )
        return envelope

    def end(self) -> None:
        """Check that every envelope was taken.

        Raises:
            VerificationError: `launch_secret.unwanted`.
        """
        left: Sequence[str] = sorted(self._envelopes)
        if left:
            raise VerificationError("launch_secret.unwanted", f"nothing asks for {left[0]}")
