"""RATS' passport model: another service appraises the guest, and its token is shown to the KBS.

A Verifier that the owner's KBS trusts, such as Azure Attestation or Intel Trust Authority, gets
evidence that binds this session's key, and returns a token that names the key. Measured
configuration says which service, under which root; the KBS decides whose tokens it accepts. The
token is opaque here. `ccinit.attest.client` fetches resources with it, and does the retries.
"""

from typing import Final, assert_never

from ccinit.attest.ports import EvidenceFor, HttpTransport
from ccinit.attest.refusal import KbsRefusedError, Remedy, is_transient
from ccinit.attest.session import token_seconds
from ccinit.errors import ConfigError
from ccinit.formats.evidence.snp import parse_snp_evidence
from ccinit.formats.evidence.tdx import parse_tdx_evidence
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import AttestationService, PassportConfig
from ccinit.formats.kbs.jwk import PublicJwk
from ccinit.formats.kbs.passport import (
    AZURE_SNP_PATH,
    AZURE_TDX_PATH,
    azure_report_data,
    encode_azure_snp_request,
    encode_azure_tdx_request,
    encode_intel_v1_request,
    encode_intel_v2_request,
    encode_runtime_data,
    intel_path,
    intel_report_data,
    parse_verifier_nonce,
)
from ccinit.formats.kbs.rcar import MAX_TOKEN_BYTES, parse_token_reply
from ccinit.net.http import Headers, HttpLimits, HttpReply
from ccinit.values import field, frozen

_PLATFORMS: Final = {
    AttestationService.AZURE: (Tee.TDX, Tee.SNP),
    AttestationService.INTEL_TRUST_AUTHORITY_V1: (Tee.TDX,),
    AttestationService.INTEL_TRUST_AUTHORITY_V2: (Tee.TDX, Tee.SNP),
}


@frozen
class Passport:
    """A token for one key, and its lifetime in seconds or None if unknown; a credential."""

    token: str = field(repr=False)
    seconds: float | None


class PassportSource:
    """One service that appraises this guest."""

    def __init__(
        self,
        config: PassportConfig,
        *,
        transport: HttpTransport,
        tee: Tee,
        evidence_for: EvidenceFor,
    ) -> None:
        """Nothing is sent yet.

        Args:
            config: which service.
            transport: under a context pinned to the service's root.
            tee: the platform.
            evidence_for: makes the evidence that carries the given report data.

        Raises:
            ConfigError: `attest.passport`, the service does not appraise this platform.
        """
        if tee not in _PLATFORMS[config.service]:
            raise ConfigError("attest.passport", f"{config.service} is not asked about {tee}")
        self._config = config
        self._tee = tee
        self._transport = transport
        self._evidence_for = evidence_for

    def obtain(self, key: PublicJwk, request_seconds: float) -> Passport:
        """Have the guest appraised, with evidence that binds `key`.

        Raises:
            KbsRefusedError: `passport.refused`, or `passport.busy`, which permits a retry.
            FormatError: `passport.…`, `rcar.…`; or the evidence cannot be converted.
            PeerError: `net.…`.
        """
        runtime_data = encode_runtime_data(key)
        match self._config.service:
            case AttestationService.AZURE:
                reply = self._ask_azure(runtime_data, request_seconds)
            case AttestationService.INTEL_TRUST_AUTHORITY_V1:
                reply = self._ask_intel(1, runtime_data, request_seconds)
            case AttestationService.INTEL_TRUST_AUTHORITY_V2:
                reply = self._ask_intel(2, runtime_data, request_seconds)
            case _:
                assert_never(self._config.service)
        token = parse_token_reply(reply.body).token
        return Passport(token=token, seconds=token_seconds(token, reply.date))

    def _ask_azure(self, runtime_data: bytes, request_seconds: float) -> HttpReply:
        evidence = self._evidence_for(azure_report_data(runtime_data), b"")
        if self._tee is Tee.SNP:
            body = encode_azure_snp_request(parse_snp_evidence(evidence), runtime_data)
            return self._send("POST", AZURE_SNP_PATH, request_seconds, body)
        body = encode_azure_tdx_request(parse_tdx_evidence(evidence), runtime_data)
        return self._send("POST", AZURE_TDX_PATH, request_seconds, body)

    def _ask_intel(self, version: int, runtime_data: bytes, request_seconds: float) -> HttpReply:
        challenge = self._send("GET", intel_path(version, "nonce"), request_seconds)
        nonce = parse_verifier_nonce(challenge.body)
        value = self._evidence_for(intel_report_data(nonce, runtime_data), b"")
        policies = self._config.policy_ids
        if version == 1:
            body = encode_intel_v1_request(parse_tdx_evidence(value), runtime_data, nonce, policies)
        else:
            snp = self._tee is Tee.SNP
            evidence = parse_snp_evidence(value) if snp else parse_tdx_evidence(value)
            body = encode_intel_v2_request(evidence, runtime_data, nonce, policies)
        return self._send("POST", intel_path(version, "attest"), request_seconds, body)

    def _send(self, method: str, path: str, seconds: float, body: bytes = b"") -> HttpReply:
        headers: Headers = (("content-type", "application/json"),) if body else ()
        if self._config.api_key is not None:
            headers = (*headers, ("x-api-key", self._config.api_key))
        limits = HttpLimits(total_seconds=seconds, max_body_bytes=MAX_TOKEN_BYTES)
        reply = self._transport.request(
            method, self._config.url + path, headers=headers, body=body, limits=limits
        )
        if reply.status == 200:
            return reply
        detail = f"{self._config.service}: status {reply.status}"
        if is_transient(reply.status):
            raise KbsRefusedError("passport.busy", detail, Remedy.RETRY)
        raise KbsRefusedError("passport.refused", detail, Remedy.STOP)
