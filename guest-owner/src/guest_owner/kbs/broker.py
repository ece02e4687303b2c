"""The Key Broker: from request bodies to reply bodies, without HTTP.

It joins the parts of this package in RCAR's order: challenge, appraisal, token, policy, encryption.
Every decision is in the audit log before its reply exists (`guest_owner.kbs.decisions`). Transport,
cookies and limits on bodies are `guest_owner.kbs.http`. All calls are synchronous and short (an RSA
verification, an ECDH, one flush of the log), and the server makes them from one thread, so no two
of them interleave.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ccinit.errors import CcinitError, FormatError, VerificationError
from ccinit.formats.evidence.tee import evidence_needs_request, report_hash
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.rcar import (
    PROTOCOL_VERSION,
    Attestation,
    Challenge,
    TokenReply,
    encode_challenge,
    encode_token_reply,
    parse_attestation,
    parse_request,
)
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri, parse_resource_uri
from ccinit.formats.kbs.rollback_counter import (
    CounterReply,
    counter_rule,
    encode_counter_reply,
    parse_counter_advance,
    parse_counter_path,
)
from guest_owner.kbs.appraisal import AppraisedEvidence, EvidenceRefusedError
from guest_owner.kbs.decisions import Decisions
from guest_owner.kbs.jwe import encrypt_to_guest
from guest_owner.kbs.minting import DebugOrder, IdentityMinter, mint_debug_grant
from guest_owner.kbs.passport_admission import PassportAdmission
from guest_owner.kbs.passports.signature import name_issuer
from guest_owner.kbs.policy import Allow, Deny, Policy, decide
from guest_owner.kbs.references.values import References
from guest_owner.kbs.refusal import KbsRefusedError, Variant
from guest_owner.kbs.sessions import Attested, Session, Sessions
from guest_owner.kbs.state.counters import Counters
from guest_owner.kbs.state.store import Store
from guest_owner.kbs.token import ISSUER, TokenSigner
from guest_owner.kbs.verifiers.table import REQUESTS, find_verified_tee, verify_attestation


class KeyBroker:
    """One KBS over one state directory."""

    def __init__(
        self,
        store: Store,
        decisions: Decisions,
        sessions: Sessions,
        signer: TokenSigner,
        mint: IdentityMinter,
        passports: PassportAdmission,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Args: clock: seconds since 1970."""
        self._store = store
        self._decisions = decisions
        self._sessions = sessions
        self._signer = signer
        self._mint = mint
        self._counters = Counters(store.root)
        self._clock = clock
        self._passports = passports

    def authenticate(self, body: bytes) -> tuple[Session, bytes]:
        """Answer `POST auth`: open a session and return it with the challenge.

        Raises:
            KbsRefusedError: malformed, another protocol version, or a platform without a verifier.
        """
        try:
            request = parse_request(body)
        except FormatError as error:
            raise self._decisions.refuse_auth("", error) from error
        try:
            _check_version(request.version)
            tee = find_verified_tee(request.tee)
        except FormatError as error:
            raise self._decisions.refuse_auth(request.tee, error) from error
        if not evidence_needs_request(tee):
            session = self._sessions.open(tee)
            return session, encode_challenge(Challenge(nonce=session.nonce, extra_params=""))
        try:
            references, _policy = self._read_state()
            nonce = REQUESTS[tee](references, request.extra_params)
        except CcinitError as error:
            raise self._decisions.refuse_auth(request.tee, error) from error
        session = self._sessions.open(tee, nonce)
        extra = {"selected-hash-algorithm": report_hash(tee)}
        return session, encode_challenge(Challenge(nonce=nonce, extra_params=extra))

    def attest(self, cookie: str | None, body: bytes) -> tuple[Session, bytes]:
        """Answer `POST attest`: appraise the evidence and return the session and the token.

        Raises:
            KbsRefusedError: no session that may attest, or evidence that is refused.
        """
        session = self._take_session(cookie)
        try:
            attestation = parse_attestation(body, session.tee)
            if attestation.nonce != session.nonce:
                raise VerificationError("rcar.nonce", "not the nonce of this session")
            evidence, basis = self._appraise(session, attestation)
        except CcinitError as error:
            self._sessions.drop(session)
            raise self._decisions.refuse_evidence(session, error) from error
        attested = Attested(
            label=session.label,
            tee=session.tee,
            subject=evidence.subject,
            tee_pubkey=attestation.tee_pubkey,
            basis=basis,
        )
        token = self._signer.sign(evidence, attested, session.nonce)
        self._decisions.accept_evidence(session.label, evidence, basis)
        self._sessions.complete(session, attested)
        return session, encode_token_reply(TokenReply(token=token))

    def _appraise(
        self, session: Session, attestation: Attestation
    ) -> tuple[AppraisedEvidence, frozenset[str]]:
        """Return the accepted evidence, and the basis of that appraisal."""
        tee, (references, policy) = session.tee, self._read_state()
        evidence = verify_attestation(tee, attestation, references, policy.devices)
        return evidence, references.basis_of(tee, evidence.endorsers)

    def resource(self, cookie: str | None, bearer: str | None, path: str) -> bytes:
        """Answer `GET resource/{path}`: return the resource, encrypted to the attested key.

        Raises:
            KbsRefusedError: not attested, refused by the policy, or absent.
        """
        attested = self._identify(cookie, bearer)
        with self._denying(attested, path):
            uri = parse_resource_uri("kbs:///" + path, "resource.path")
        with self._denying(attested, str(uri)):
            allowed = self._require_allowed(attested, uri, uri)
            body, minted = self._make_body(attested, uri)
        return self._release(attested, str(uri), body, allowed, minted)

    def counter(
        self, cookie: str | None, bearer: str | None, path: str, advance: bytes | None
    ) -> bytes:
        """Answer `rollback-counter/{path}`: a POST's body moves the counter; None only reads it.

        Raises:
            KbsRefusedError: not attested, refused by the policy, of another pod, absent, or moved
                by someone else.
        """
        attested = self._identify(cookie, bearer)
        with self._denying(attested, path):
            uri = parse_counter_path(path)
        with self._denying(attested, str(uri)):
            allowed = self._require_allowed(attested, uri, counter_rule(uri))
            self._require_pod(attested, uri.path.partition("/")[0])
            counter = (
                self._counters.read(uri)
                if advance is None
                else self._counters.advance(uri, parse_counter_advance(advance))
            )
        body = encode_counter_reply(CounterReply(uri=uri, counter=counter.value))
        return self._release(attested, str(uri), body, allowed, f"counter {counter.value}")

    @contextmanager
    def _denying(self, attested: Attested, resource: str) -> Iterator[None]:
        """Deny the resource for any error in the block; the guest is not told which."""
        try:
            yield
        except KbsRefusedError:
            raise
        except CcinitError as error:
            raise self._decisions.deny(
                attested, resource, error, Variant.PLUGIN_INTERNAL_ERROR
            ) from error

    def _release(
        self, attested: Attested, resource: str, body: bytes, allowed: Allow, minted: str
    ) -> bytes:
        """Return a reply that only the attested key opens, once the release is recorded."""
        reply = encrypt_to_guest(body, attested.tee_pubkey)
        self._decisions.release(attested, resource, allowed, minted)
        return reply

    def _require_pod(self, attested: Attested, pod: str) -> None:
        registered = self._read_pod_name(attested)
        if pod != registered:
            raise VerificationError("counter.pod", f"asked for {pod}, the guest is {registered}")

    def _read_pod_name(self, attested: Attested) -> str:
        subject = attested.subject
        return self._store.read_pod_name(subject.initdata_name, subject.initdata_digest)

    def _make_body(self, attested: Attested, uri: ResourceUri) -> tuple[bytes, str]:
        """Return a stored body, or a minted one and what the audit log says about it."""
        order = self._store.read_order(uri)
        if order is None:
            return self._store.read_resource(uri), ""
        # Mint for the pod that the guest is bound to, whatever pod the URI names.
        pod = self._read_pod_name(attested)
        if uri.type != pod:
            raise VerificationError("mint.pod", f"{uri} is not of pod {pod}")
        if isinstance(order, DebugOrder):
            data = mint_debug_grant(order, attested.tee_pubkey, self._clock())
            kind, told = EnvelopeKind.DEBUG_GRANT, attested.tee_pubkey.thumbprint().hex()
        else:
            identity = self._mint(pod=pod, session=attested.label, life_seconds=order.life_seconds)
            data, kind, told = identity.data, EnvelopeKind.TLS_IDENTITY, identity.fingerprint
        return encode_envelope(Envelope(uri=uri, kind=kind, data=data)), f"{kind} sha256:{told}"

    def _require_allowed(self, attested: Attested, asked: KbsUri, uri: ResourceUri) -> Allow:
        """Return by which rule what is asked for may be released; rules know it as `uri`.

        Raises:
            KbsRefusedError: it is withheld.
        """
        decision = self._decide(attested, uri)
        if isinstance(decision, Deny):
            raise self._decisions.deny(attested, str(asked), decision.reason, Variant.POLICY_DENY)
        return decision

    def _decide(self, attested: Attested, uri: ResourceUri) -> Allow | Deny:
        subject = attested.subject
        references, policy = self._read_state()
        if not subject.is_registered(references):
            return Deny("the registration that the guest was appraised with was withdrawn")
        if not references.includes(attested.basis):
            gone = "a key, certificate or requirement that the guest was appraised by was withdrawn"
            return Deny(gone)
        return decide(policy, uri, subject.with_aliases(references))

    def _read_state(self) -> tuple[References, Policy]:
        """Return what is registered, and the policy.

        Every state has a policy, so one without is not the real directory (but an empty mount
        point, say): that is our error, and no verdict about any guest.

        Raises:
            ConfigError: `state.read`; as `Store.read_references`, `Store.read_policy`.
        """
        policy = self._store.read_policy()
        return self._store.read_references(), policy

    def _identify(self, cookie: str | None, bearer: str | None) -> Attested:
        """Return who asks: by the cookie's session if that attested, else by the token."""
        attested = self._sessions.attested(cookie)
        if attested is not None:
            return attested
        if bearer is None:
            self._decisions.deny_stranger("no attested session and no token")
            raise KbsRefusedError(Variant.TOKEN_NOT_FOUND, "Attestation Token not found")
        told = "Token Verifier error"
        try:
            if name_issuer(bearer) in {None, ISSUER}:
                return self._signer.verify(bearer)
            return self._passports.admit(bearer)
        except EvidenceRefusedError as error:
            # A registered issuer signed the token: whoever shows it may learn what is wrong.
            told = f"{told}: {error.detail}"
            raise KbsRefusedError(Variant.TOKEN_VERIFIER_ERROR, told) from error
        except CcinitError as error:
            self._decisions.deny_stranger(str(error))
            raise KbsRefusedError.because(error, Variant.TOKEN_VERIFIER_ERROR, told) from error

    def _take_session(self, cookie: str | None) -> Session:
        try:
            return self._sessions.take_for_attest(cookie)
        except KbsRefusedError as refusal:
            self._decisions.refuse_without_session(refusal)
            raise


def _check_version(version: str) -> None:
    if version != PROTOCOL_VERSION:
        # The text by which Trustee's clients know this refusal.
        raise FormatError(
            "rcar.version",
            "KBS Client Protocol Version Mismatch: "
            f"expect ={PROTOCOL_VERSION} while the request is {version}",
        )
