"""A KBS without a server: one image, the pod `shop`, its secret, and guests that ask for it."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.attest.composite import DeviceAttester, collect_additional_evidence
from ccinit.attest.jwe import decrypt_jwe
from ccinit.attest.tee_key import generate_tee_key
from ccinit.formats.evidence.tee import Tee, report_data_for
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.kbs.rcar import (
    Attestation,
    Nonce,
    Request,
    device_digest,
    encode_attestation,
    encode_request,
    report_digest,
)
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from ccinit.formats.kbs.rollback_counter import (
    CounterAdvance,
    counter_uri,
    encode_counter_advance,
    verify_counter_reply,
)
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.audit.log import AUDIT_NAME, AuditLog, read_audit
from guest_owner.kbs.broker import KeyBroker
from guest_owner.kbs.decisions import Decisions
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.minting import MintedIdentity
from guest_owner.kbs.refusal import KbsRefusedError
from guest_owner.kbs.sessions import Sessions
from guest_owner.kbs.state.store import Store
from guest_owner.kbs.token import TokenSigner
from tests.fakes.documents.guest import CONFIG, POD
from tests.fakes.platforms.tpm_quote import FakeTpm
from tests.unit.guest_owner.kbs.values import booted_tpm, reference_set

DOCUMENT = make_document(CONFIG, POD)
SECRET = b"the owner's secret, 7d1c"
PATH = "ccinit/shop/file-password"
RULE = b"""
version = 1
[[rule]]
resources = "ccinit/*/*"
profile = "prod"
initdata = ["shop"]
"""
COUNTER = counter_uri("shop", "data")
AUTH = encode_request(Request(version="0.4.0", tee="tpm", extra_params={}))
NOW = 1_800_000_000
KEY = ec.generate_private_key(ec.SECP256R1())


def resource(path: str) -> ResourceUri:
    return parse_resource_uri(f"kbs:///{path}")


class Clock:
    """Seconds of the sessions; `date` is that of tokens and grants."""

    def __init__(self) -> None:
        self.now, self.date = 1000.0, float(NOW)


class Strangers:
    """Tokens of other Verifiers: asked about each, and answers as a test says."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Exception | object = AssertionError("nobody expected another's token")

    def admit(self, token: str) -> Any:
        self.asked.append(token)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Kbs:
    """The broker over one state directory, and what its owner sees."""

    def __init__(self, store: Store) -> None:
        self.store, self.clock, self.strangers = store, Clock(), Strangers()
        self.tpm = booted_tpm(reference_set(), DOCUMENT)
        store.add_reference(reference_set())
        store.add_attestation_key("node", self.tpm.public_der)
        store.add_initdata("shop", DOCUMENT)
        store.write_policy(RULE)
        store.write_resource(resource(PATH), SECRET)
        self.signer = TokenSigner(KEY, life_seconds=200, clock=lambda: self.clock.date)
        self.log = store.root / AUDIT_NAME
        self.minted: list[dict[str, object]] = []
        self.broker = self._start()

    def _start(self) -> KeyBroker:
        strangers: Any = self.strangers
        return KeyBroker(
            self.store,
            Decisions(AuditLog(self.log)),
            Sessions(Limits(session_seconds=300), lambda: self.clock.now),
            self.signer,
            self._mint,
            strangers,
            lambda: self.clock.date,
        )

    def restart(self) -> None:
        self.broker = self._start()

    def _mint(self, **asked: object) -> MintedIdentity:
        self.minted.append(asked)
        return MintedIdentity(data=b"key and certificate", fingerprint="ab" * 32)

    def records(self) -> list[dict[str, Any]]:
        return list(read_audit(self.log))

    def last(self) -> dict[str, Any]:
        return self.records()[-1]

    def guest(self, tpm: FakeTpm | None = None) -> "Guest":
        return Guest(self, tpm or self.tpm)


class Guest:
    """One that has asked for a challenge."""

    def __init__(self, kbs: Kbs, tpm: FakeTpm) -> None:
        self.kbs, self.tpm = kbs, tpm
        self.key = generate_tee_key(TeeKeyAlgorithm.P256)
        self.session, reply = kbs.broker.authenticate(AUTH)
        self.nonce: str = json.loads(reply)["nonce"]

    @property
    def cookie(self) -> str:
        return self.session.cookie

    def evidence(
        self,
        *,
        nonce: str = "",
        document: bytes = DOCUMENT,
        devices: tuple[DeviceAttester, ...] = (),
    ) -> bytes:
        """The body of an attestation; by another's nonce, if one is given."""
        said, public = Nonce(nonce or self.nonce), self.key.public_jwk
        additional = collect_additional_evidence(devices, device_digest(said, public, Tee.TPM))
        digest = report_data_for(Tee.TPM, report_digest(said, public, additional, Tee.TPM))
        return encode_attestation(
            Attestation(
                nonce=said,
                tee_pubkey=public,
                init_data=document.decode(),
                primary_evidence=self.tpm.quote(digest).to_json_value(),
                additional_evidence=additional,
            )
        )

    def attest(self, **changes: Any) -> str:
        """Attest; return the token."""
        session, reply = self.kbs.broker.attest(self.cookie, self.evidence(**changes))
        assert session is self.session
        token = json.loads(reply)["token"]
        assert isinstance(token, str)
        return token

    def get(self, path: str = PATH, token: str | None = None) -> bytes:
        """Ask for a resource, by the session or by a token alone; return the plaintext."""
        cookie = self.cookie if token is None else None
        return self.open(self.kbs.broker.resource(cookie, token, path))

    def open(self, reply: bytes) -> bytes:
        return decrypt_jwe(reply, self.key).reveal()


def step(guest: Guest, to: int | None = None, path: str = "shop/data") -> int:
    """Read the pod's counter, or move it; return where it is."""
    body = None
    if to is not None:
        body = encode_counter_advance(CounterAdvance(to=to, holder=bytes(16)))
    reply = guest.kbs.broker.counter(guest.cookie, None, path, body)
    return verify_counter_reply(guest.open(reply), COUNTER)


def refused(action: Any, *arguments: Any, **named: Any) -> KbsRefusedError:
    with pytest.raises(KbsRefusedError) as caught:
        action(*arguments, **named)
    return caught.value


def outcome(refusal: KbsRefusedError) -> tuple[int, str]:
    return refusal.status, refusal.variant.value
