"""Azure Attestation and Intel Trust Authority as a guest sees them, and as strict as can be.

Both look at every member, header and byte of a request, and at nothing else: the quote is a frame
with the report data in its place, not signed by anyone. A token names the key of the runtime data,
as the real ones do, and the KBS is told of it.
"""

import base64
import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning

from ccinit.formats.snp_evidence import Certificate, CertType, SnpEvidence
from ccinit.formats.snp_report import parse_snp_report
from ccinit.formats.strict_json import JsonValue
from ccinit.formats.tee import ReportData
from ccinit.net.http import Headers, HttpLimits, HttpReply
from tests.fakes.kbs_http import DATE, FakeKbs, recipient, reply
from tests.fakes.snp import FakeSnp, der_of

URL = "https://attest.example"
API_KEY = "djE6YWJj"
POLICY = "2b5e0a2c-1111-4222-8333-444455556666"
_HTTP_HEADERS = frozenset(
    ("accept", "accept-encoding", "connection", "content-length", "host", "user-agent")
)
_REPORT_DATA = slice(48 + 520, 48 + 584)  # header, then the TD report body (TDX DCAP quote v4)


def quote_over(report_data: bytes) -> bytes:
    """A quote's frame with report data."""
    assert len(report_data) == 64
    return b"\4\0" + bytes(566) + report_data + bytes(100)


def tdx_evidence(report_data: ReportData) -> JsonValue:
    """What a TDX Attester makes, in the form of Trustee's verifier."""
    quote = base64.b64encode(quote_over(report_data)).decode()
    return {"quote": quote, "cc_eventlog": None}


def snp_evidence(report_data: ReportData) -> JsonValue:
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
    """What both have in common; `life_seconds` of its tokens.

    Attributes:
        faults: replies given instead of an answer, one for each request.
        calls: method and path of every request.
        tamper: changes an answer's body.
    """

    kbs: FakeKbs
    life_seconds: int = 300
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

    def issue(self, runtime_data: bytes, claim: str) -> dict[str, str]:
        claims = {"exp": DATE + self.life_seconds, claim: json.loads(runtime_data)}
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        token = f"header.{payload}.signature{len(self.calls)}"
        self.kbs.passports[token] = recipient(claims[claim]["tee-pubkey"])
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
        expected = hashlib.sha256(runtime_data).digest() + bytes(32)
        carried = _decode_url(value[evidence])
        if call == "SevSnpVm":
            carried = self._open_report(json.loads(carried))
            expected_evidence = carried[:0x50] + expected + carried[0x90:]
        else:
            expected_evidence = quote_over(expected)
        if carried != expected_evidence:
            return 400, {}
        return 200, self.issue(runtime_data, "x-ms-runtime")

    def _open_report(self, value: dict[str, str]) -> bytes:
        assert list(value) == ["SnpReport", "VcekCertChain"]
        with warnings.catch_warnings():  # AMD's certificates have the serial number zero
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            chain = x509.load_pem_x509_certificates(_decode_url(value["VcekCertChain"]))
        leaf, ask, ark = chain
        for issued, issuer in ((leaf, ask), (ask, ark), (ark, ark)):
            assert issued.issuer == issuer.subject
        report = _decode_url(value["SnpReport"])
        assert len(report) == 1184
        return report


@dataclass(kw_only=True)
class IntelTrustAuthority(AttestationService):
    """Nonce and appraisal of one API version; a nonce is good for one appraisal."""

    version: int
    policies: tuple[str, ...] = ()
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
        if self.version == 2:
            if set(value) != {"tdx"}:
                return 400, {}
            value = value["tdx"]  # type: ignore[assignment]
        well_formed = (
            headers == {"content-type": "application/json"}
            and policies == list(self.policies)
            and set(value) == {"quote", "verifier_nonce", "runtime_data"}
            and value["verifier_nonce"] in self._nonces
        )
        if not well_formed:
            return 400, {}
        nonce = value["verifier_nonce"]
        self._nonces.remove(nonce)  # type: ignore[arg-type]
        runtime_data = base64.b64decode(str(value["runtime_data"]), validate=True)
        val, iat = (base64.b64decode(nonce[name]) for name in ("val", "iat"))  # type: ignore[index]
        expected = hashlib.sha512(val + iat + runtime_data).digest()
        if base64.b64decode(str(value["quote"]), validate=True)[_REPORT_DATA] != expected:
            return 400, {}
        return 200, self.issue(runtime_data, "attester_runtime_data")


def _own_headers(headers: Headers) -> dict[str, str]:
    """The headers that the API knows, without those of any HTTP client."""
    return {name: value for name, value in headers if name not in _HTTP_HEADERS}


def _decode_url(text: str) -> bytes:
    assert "=" not in text
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
