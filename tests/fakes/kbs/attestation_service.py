"""Azure Attestation and Intel Trust Authority as a guest sees them, and as strict as can be.

Both look at every member, header and byte of a request, and of the evidence at its report data: who
signed it is for whoever makes it. Tokens are as the real ones (`attestation_tokens`); a fake KBS is
told of each and of its key.
"""

import base64
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.snp import Certificate, CertType, SnpEvidence
from ccinit.formats.evidence.snp_report import parse_snp_report
from ccinit.formats.evidence.tee import ReportData
from ccinit.net.http import Headers, HttpLimits, HttpReply
from tests.fakes.kbs.attestation_tokens import (
    INTEL,
    Claims,
    FakeIssuer,
    azure_claims,
    azure_report_data,
    intel_claims,
    intel_report_data,
)
from tests.fakes.kbs.http import DATE, FakeKbs, recipient, reply
from tests.fakes.platforms.snp import FakeSnp, der_of

URL = "https://attest.example"
API_KEY = "djE6YWJj"
POLICY = "2b5e0a2c-1111-4222-8333-444455556666"
_HTTP_HEADERS = frozenset(
    ("accept", "accept-encoding", "connection", "content-length", "host", "user-agent")
)
# Header, then the TD report body (TDX DCAP quote v4); a report of SEV-SNP (AMD 56860).
_TDX_REPORT_DATA = slice(48 + 520, 48 + 584)
_SNP_REPORT_DATA = slice(0x50, 0x90)
_SNP_REPORT_BYTES = 1184


def quote_over(report_data: bytes) -> bytes:
    """A quote's frame with report data."""
    assert len(report_data) == 64
    return b"\4\0" + bytes(566) + report_data + bytes(100)


def tdx_evidence(report_data: ReportData, _request: bytes) -> JsonValue:
    """What a TDX Attester makes, in the form of Trustee's verifier."""
    quote = base64.b64encode(quote_over(report_data)).decode()
    return {"quote": quote, "cc_eventlog": None}


def snp_evidence(report_data: ReportData, _request: bytes) -> JsonValue:
    """What an SNP Attester makes on a host that has the whole chain."""
    processor = FakeSnp()
    chain = processor.chain
    kinds = ((CertType.ARK, chain.ark), (CertType.VCEK, chain.leaf), (CertType.ASK, chain.ask))
    return SnpEvidence(
        report=parse_snp_report(processor.report(report_data)),
        certificates=tuple(
            Certificate(cert_type=kind, data=der_of(known)) for kind, known in kinds
        ),
    ).to_json_value()


@dataclass(kw_only=True)
class AttestationService:
    """What both have in common.

    Attributes:
        life_seconds: of its tokens.
        now: seconds since 1970.
        faults: replies given instead of an answer, one for each request.
        calls: method and path of every request.
        tamper: changes an answer's body.
    """

    kbs: FakeKbs
    life_seconds: int = 300
    now: Callable[[], int] = lambda: DATE
    issuer: FakeIssuer = field(default_factory=FakeIssuer)
    faults: list[HttpReply | None] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    tamper: Callable[[bytes], bytes] = lambda body: body

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers = (),
        body: bytes = b"",
        limits: HttpLimits,
    ) -> HttpReply:
        assert url.startswith(URL + "/")
        assert limits.max_body_bytes <= 1 << 20
        path = url.removeprefix(URL)
        self.calls.append((method, path))
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            return fault
        status, answer = self.answer(method, path, _own_headers(headers), body)
        return reply(status, self.tamper(json.dumps(answer).encode()))

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, object]:
        raise NotImplementedError

    def issue(self, runtime_data: bytes, claims: Claims, algorithm: str) -> dict[str, str]:
        claims |= {"jti": str(len(self.calls)), "iss": self.issuer.iss}
        token = self.issuer.sign(claims, algorithm=algorithm)
        self.kbs.passports[token] = recipient(json.loads(runtime_data)["tee-pubkey"])
        return {"token": token}


@dataclass(kw_only=True)
class AzureAttestation(AttestationService):
    """`POST /attest/TdxVm` and `POST /attest/SevSnpVm`."""

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, object]:
        call, _, version = path.removeprefix("/attest/").partition("?")
        if (method, version) != ("POST", "api-version=2025-06-01"):
            return 404, {}
        value = json.loads(body)
        evidence = {"TdxVm": "quote", "SevSnpVm": "report"}.get(call)
        well_formed = (
            headers == {"content-type": "application/json"}
            and set(value) == {evidence, "runtimeData"}
            and set(value["runtimeData"]) == {"data", "dataType"}
            and value["runtimeData"]["dataType"] == "JSON"
        )
        if not well_formed:
            return 400, {}
        runtime_data = _decode_url(value["runtimeData"]["data"])
        carried = _decode_url(value[evidence])
        if call == "SevSnpVm":
            carried = self._open_report(json.loads(carried))
        if report_data_of(carried) != azure_report_data(runtime_data):
            return 400, {}
        claims = azure_claims(carried, runtime_data, now=self.now(), life=self.life_seconds)
        return 200, self.issue(runtime_data, claims, "RS256")

    def _open_report(self, value: dict[str, str]) -> bytes:
        assert list(value) == ["SnpReport", "VcekCertChain"]
        with warnings.catch_warnings():  # AMD's certificates have the serial number zero
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            chain = x509.load_pem_x509_certificates(_decode_url(value["VcekCertChain"]))
        leaf, ask, ark = chain
        for issued, issuer in ((leaf, ask), (ask, ark), (ark, ark)):
            assert issued.issuer == issuer.subject
        report = _decode_url(value["SnpReport"])
        assert len(report) == _SNP_REPORT_BYTES
        return report


@dataclass(kw_only=True)
class IntelTrustAuthority(AttestationService):
    """Nonce and appraisal of one API version; a nonce is good for one appraisal."""

    version: int
    policies: tuple[str, ...] = ()
    issuer: FakeIssuer = field(default_factory=lambda: FakeIssuer(iss=INTEL))
    _nonces: list[dict[str, str]] = field(default_factory=list)

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, object]:
        if headers.pop("x-api-key", "") != API_KEY:
            return 401, {}
        prefix = f"/appraisal/v{self.version}/"
        if (method, path, headers, body) == ("GET", prefix + "nonce", {}, b""):
            number = str(len(self.calls)).encode()
            parts = {"val": b"value" + number, "iat": b"time" + number, "signature": b"signed"}
            nonce = {name: base64.b64encode(part).decode() for name, part in parts.items()}
            self._nonces.append(nonce)
            return 200, nonce
        if (method, path) != ("POST", prefix + "attest"):
            return 404, {}
        return self._appraise(headers, json.loads(body))

    def _appraise(self, headers: dict[str, str], value: dict[str, object]) -> tuple[int, object]:
        policies = value.pop("policy_ids", [])
        member = "quote"
        if self.version == 2:
            if set(value) not in ({"tdx"}, {"sevsnp"}):
                return 400, {}
            ((kind, value),) = value.items()  # type: ignore[assignment]
            member = "report" if kind == "sevsnp" else "quote"
        well_formed = (
            headers == {"content-type": "application/json"}
            and policies == list(self.policies)
            and set(value) == {member, "verifier_nonce", "runtime_data"}
            and value["verifier_nonce"] in self._nonces
        )
        if not well_formed:
            return 400, {}
        nonce: dict[str, str] = value["verifier_nonce"]  # type: ignore[assignment]
        self._nonces.remove(nonce)
        runtime_data = base64.b64decode(str(value["runtime_data"]), validate=True)
        carried = base64.b64decode(str(value[member]), validate=True)
        of_its_kind = (len(carried) == _SNP_REPORT_BYTES) == (member == "report")
        if not of_its_kind or report_data_of(carried) != intel_report_data(nonce, runtime_data):
            return 400, {}
        claims = intel_claims(
            carried,
            runtime_data,
            nonce,
            version=self.version,
            now=self.now(),
            life=self.life_seconds,
            policies=self.policies,
        )
        return 200, self.issue(runtime_data, claims, "PS384")


def report_data_of(evidence: bytes) -> bytes:
    """The 64 bytes that a report or a quote carries."""
    is_snp = len(evidence) == _SNP_REPORT_BYTES
    return evidence[_SNP_REPORT_DATA if is_snp else _TDX_REPORT_DATA]


def _own_headers(headers: Headers) -> dict[str, str]:
    """The headers that the API knows, without those of any HTTP client."""
    return {name: value for name, value in headers if name not in _HTTP_HEADERS}


def _decode_url(text: str) -> bytes:
    assert "=" not in text
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
