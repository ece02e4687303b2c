"""Secrets of the launch in a KBS's place: SEV and SEV-ES, which sign no report for a guest.

The owner judged this launch before its first instruction and gave it all that the pod needs. So the
secrets are asked for what a KBS's replies are asked for: each is an envelope for exactly the URI
and the kind that the measured manifest names. None may be missing, none may be left over, for the
guest could not say whose idea that was, and nothing can be fetched later.
"""

from collections.abc import Iterable, Sequence

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, parse_envelope
from ccinit.formats.kbs.resource_uri import KbsUri


class LaunchSecrets:
    """The envelopes of one launch, each of which is taken once."""

    def __init__(self, entries: Iterable[bytes]) -> None:
        """Read every entry.

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
        """Return the envelope of a resource, which was not taken yet.

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
        """See that everything was taken.

        Raises:
            VerificationError: `launch_secret.unwanted`.
        """
        left: Sequence[str] = sorted(self._envelopes)
        if left:
            raise VerificationError("launch_secret.unwanted", f"nothing asks for {left[0]}")
