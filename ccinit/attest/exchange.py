"""The RCAR handshake as a state machine without a socket.

Theory of operation. One `Exchange` is one handshake with one key. It makes the next request and
takes the reply; bytes in, bytes out. Two rules:

 1. Every move is a row of `_MOVES`, made by `_move` and nowhere else.
 2. A reply that cannot be accepted, for whatever cause, moves to FAILED, which has no row: a failed
    exchange can do nothing more, and a new handshake is a new `Exchange` with a new key.

    START --request--> REQUESTED --challenge--> CHALLENGED --devices--> BOUND --evidence-->
    SUBMITTED --token--> ATTESTED

Calling a method in another state is a bug of ours (`RuntimeError`); a reply that breaks the
protocol is the peer's fault (`FormatError`, `PeerError`). Transport, cookies, retries and resources
are left to `ccinit.attest.client`.
"""

import hashlib
from collections.abc import Container, Mapping
from enum import Enum, auto
from typing import Final

from ccinit.attest.refusal import refusal
from ccinit.attest.tee_key import TeeKey
from ccinit.errors import CcinitError, LimitExceededError, PeerError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData, Tee, report_data_for, report_hash
from ccinit.formats.kbs.rcar import (
    PROTOCOL_VERSION,
    Attestation,
    Nonce,
    Request,
    TokenReply,
    device_digest,
    encode_attestation,
    encode_request,
    parse_challenge,
    parse_token_reply,
    report_digest,
)


class State(Enum):
    """Where a handshake stands."""

    START = auto()
    REQUESTED = auto()
    CHALLENGED = auto()
    BOUND = auto()
    SUBMITTED = auto()
    ATTESTED = auto()
    FAILED = auto()


class Event(Enum):
    """What can happen to a handshake."""

    REQUEST = auto()
    CHALLENGE = auto()
    DEVICES = auto()
    EVIDENCE = auto()
    TOKEN = auto()
    FAILURE = auto()


MAX_HANDSHAKES: Final = 16 * 1024
"""Of one client: more than its back-off permits in a day, the longest deadline."""

_MOVES: Final = {
    (State.START, Event.REQUEST): State.REQUESTED,
    (State.REQUESTED, Event.CHALLENGE): State.CHALLENGED,
    (State.REQUESTED, Event.FAILURE): State.FAILED,
    (State.CHALLENGED, Event.DEVICES): State.BOUND,
    (State.BOUND, Event.EVIDENCE): State.SUBMITTED,
    (State.SUBMITTED, Event.TOKEN): State.ATTESTED,
    (State.SUBMITTED, Event.FAILURE): State.FAILED,
}


class UsedNonces:
    """The nonces of one client's handshakes, as digests: a nonce can be a request of 48 KiB."""

    def __init__(self, max_handshakes: int = MAX_HANDSHAKES) -> None:
        self._digests = set[bytes]()
        self._max = max_handshakes

    def __contains__(self, nonce: object) -> bool:
        return isinstance(nonce, str) and _digest(nonce) in self._digests

    def add(self, nonce: Nonce) -> None:
        """Remember one.

        Raises:
            LimitExceededError: `kbs.handshakes`.
        """
        if len(self._digests) >= self._max:
            raise LimitExceededError("kbs.handshakes", f"{self._max} were begun")
        self._digests.add(_digest(nonce))


def _digest(nonce: str) -> bytes:
    return hashlib.sha256(nonce.encode()).digest()


class Exchange:
    """One handshake."""

    def __init__(
        self,
        tee: Tee,
        key: TeeKey,
        *,
        used_nonces: Container[Nonce] = (),
        parameters: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Begin with nothing sent.

        Args:
            tee: the platform.
            key: for this handshake alone.
            used_nonces: of earlier handshakes; none may be repeated.
            parameters: what the request has to tell of the platform.
        """
        self._tee = tee
        self._key = key
        self._used_nonces = used_nonces
        self._parameters = parameters or {}
        self._nonce = Nonce("")
        self._additional_evidence = ""
        self.state = State.START

    @property
    def nonce(self) -> Nonce:
        """The challenge's nonce; empty before there is one."""
        return self._nonce

    def encode_request(self) -> bytes:
        """Return the body of `POST auth`."""
        self._move(Event.REQUEST)
        return encode_request(
            Request(
                version=PROTOCOL_VERSION,
                tee=self._tee.value,
                extra_params={
                    "supported-hash-algorithms": [report_hash(self._tee)],
                    **self._parameters,
                },
            )
        )

    def receive_challenge(self, status: int, body: bytes) -> bytes:
        """Take the reply to `POST auth`; return the digest that devices' evidence has to carry.

        Raises:
            PeerError: `kbs.…`, refused, or `kbs.nonce_repeated`.
            FormatError: `rcar.…`.
        """
        self._expect(State.REQUESTED)
        try:
            if status != 200:
                raise refusal(status, body)
            challenge = parse_challenge(body, self._tee)
            if challenge.nonce in self._used_nonces:
                raise PeerError("kbs.nonce_repeated", "the nonce is that of an earlier handshake")
        except CcinitError:
            self._move(Event.FAILURE)
            raise
        self._move(Event.CHALLENGE)
        self._nonce = challenge.nonce
        return device_digest(self._nonce, self._key.public_jwk, self._tee)

    def bind_devices(self, additional_evidence: str) -> ReportData:
        """Take the text of the devices' evidence; return the report data of the primary evidence.

        The text is sent exactly as it is hashed here.
        """
        self._move(Event.DEVICES)
        self._additional_evidence = additional_evidence
        digest = report_digest(self._nonce, self._key.public_jwk, additional_evidence, self._tee)
        return report_data_for(self._tee, digest)

    def encode_attestation(self, evidence: JsonValue, init_data: str | None) -> bytes:
        """Return the body of `POST attest`; `init_data` is the document's TOML text."""
        self._move(Event.EVIDENCE)
        return encode_attestation(
            Attestation(
                nonce=self._nonce,
                tee_pubkey=self._key.public_jwk,
                init_data=init_data,
                primary_evidence=evidence,
                additional_evidence=self._additional_evidence,
            )
        )

    def receive_token(self, status: int, body: bytes) -> TokenReply:
        """Take the reply to `POST attest`.

        Raises:
            PeerError: `kbs.…`, refused.
            FormatError: `rcar.…`.
        """
        self._expect(State.SUBMITTED)
        try:
            if status != 200:
                raise refusal(status, body)
            reply = parse_token_reply(body)
        except CcinitError:
            self._move(Event.FAILURE)
            raise
        self._move(Event.TOKEN)
        return reply

    def _expect(self, state: State) -> None:
        if self.state is not state:
            raise RuntimeError(f"the exchange is {self.state.name}, not {state.name}")

    def _move(self, event: Event) -> None:
        try:
            self.state = _MOVES[self.state, event]
        except KeyError:
            raise RuntimeError(f"{event.name} cannot happen in {self.state.name}") from None
