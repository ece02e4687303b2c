"""A token of another service: how it is got, what binds it, and how the KBS is shown it."""

from collections.abc import Callable

import pytest

from ccinit.attest.client import KbsClient
from ccinit.attest.passport import PassportSource
from ccinit.attest.patience import AttestLimits, Waiting
from ccinit.attest.ports import EvidenceFor
from ccinit.errors import ConfigError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tee import ReportData, Tee
from ccinit.formats.initdata.guest_config import AttestationService as Service
from ccinit.formats.initdata.guest_config import PassportConfig
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from tests.fakes.kbs.attestation_service import (
    API_KEY,
    POLICY,
    URL,
    AttestationService,
    AzureAttestation,
    IntelTrustAuthority,
    snp_evidence,
    tdx_evidence,
)
from tests.fakes.kbs.http import URL as KBS_URL
from tests.fakes.kbs.http import FakeKbs, answer, refuse, reply
from tests.fakes.platforms.snp import FakeSnp
from tests.unit.ccinit.attest.guest_client import refused_reason

URI = parse_resource_uri("kbs:///ccinit/pod/file-a")
AZURE_CALL = ("POST", "/attest/TdxVm?api-version=2025-06-01")
MakeService = Callable[[FakeKbs], AttestationService]

SERVICES: dict[Service, MakeService] = {
    Service.AZURE: lambda kbs: AzureAttestation(kbs=kbs),
    Service.INTEL_TRUST_AUTHORITY_V1: lambda kbs: IntelTrustAuthority(
        kbs=kbs, version=1, policies=(POLICY,)
    ),
    Service.INTEL_TRUST_AUTHORITY_V2: lambda kbs: IntelTrustAuthority(
        kbs=kbs, version=2, policies=(POLICY,)
    ),
}
CALLS = {
    Service.AZURE: [AZURE_CALL],
    Service.INTEL_TRUST_AUTHORITY_V1: [
        ("GET", "/appraisal/v1/nonce"),
        ("POST", "/appraisal/v1/attest"),
    ],
    Service.INTEL_TRUST_AUTHORITY_V2: [
        ("GET", "/appraisal/v2/nonce"),
        ("POST", "/appraisal/v2/attest"),
    ],
}
EVERY = pytest.mark.parametrize("name", Service)


def config(name: Service) -> PassportConfig:
    is_intel = name is not Service.AZURE
    return PassportConfig(
        service=name,
        url=URL,
        ca_pem="",
        api_key=API_KEY if is_intel else None,
        policy_ids=(POLICY,) if is_intel else (),
    )


class Guest:
    """A client that is appraised by a service; its time passes by sleeping."""

    def __init__(
        self,
        name: Service,
        *,
        evidence_for: EvidenceFor = tdx_evidence,
        algorithm: TeeKeyAlgorithm = TeeKeyAlgorithm.P256,
        tee: Tee = Tee.TDX,
    ) -> None:
        self.kbs = FakeKbs(resources={URI.path: b"secret a"})
        self.service = SERVICES[name](self.kbs)
        self.now = 0.0
        source = PassportSource(
            config(name), transport=self.service, tee=tee, evidence_for=evidence_for
        )
        self.client = KbsClient(
            url=KBS_URL,
            transport=self.kbs,
            tee=tee,
            evidence_for=evidence_for,
            init_data="",
            passport=source,
            key_algorithm=algorithm,
            limits=AttestLimits(total_seconds=60),
            waiting=Waiting(now=lambda: self.now, sleep=self._sleep, fraction=lambda: 0.5),
        )

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def get(self) -> bytes:
        return self.client.get_resource(URI).body.reveal()


@EVERY
@pytest.mark.parametrize("algorithm", TeeKeyAlgorithm)
def test_token_for_a_bound_key_is_shown_to_the_kbs(
    name: Service, algorithm: TeeKeyAlgorithm
) -> None:
    guest = Guest(name, algorithm=algorithm)
    assert guest.get() == guest.get() == b"secret a"
    assert guest.service.calls == CALLS[name]
    assert guest.kbs.paths == [f"resource/{URI.path}"] * 2
    [token] = guest.kbs.passports
    assert guest.kbs.calls[0].headers == (("authorization", f"Bearer {token}"),)
    result = guest.client.attest()
    assert result.date is None
    assert token not in repr(result)


def chainless_evidence(report_data: ReportData, _request: bytes) -> JsonValue:
    return FakeSnp().evidence(report_data)


def with_another_end(report_data: ReportData) -> ReportData:
    return ReportData(report_data[:-1] + bytes((report_data[-1] ^ 1,)))


@EVERY
def test_quote_over_another_key_gets_no_token(name: Service) -> None:
    def moved(report_data: ReportData, request: bytes) -> JsonValue:
        return tdx_evidence(with_another_end(report_data), request)

    assert Guest(name).get() == b"secret a"
    guest = Guest(name, evidence_for=moved)
    assert refused_reason(guest.get) == "passport.refused"
    assert not guest.kbs.calls


@EVERY
def test_token_is_renewed_with_a_new_key_before_it_ends(name: Service) -> None:
    guest = Guest(name)
    guest.get()
    guest.now += 289
    guest.get()
    assert len(guest.kbs.passports) == 1
    guest.now += 2
    guest.get()
    assert guest.service.calls == CALLS[name] * 2
    assert len({str(key.public_numbers()) for key in guest.kbs.passports.values()}) == 2


@EVERY
def test_token_that_the_kbs_does_not_take_is_renewed_once(name: Service) -> None:
    guest = Guest(name)
    lost = answer(refuse(401, "TokenVerifierError"))
    guest.kbs.faults = [lost]
    assert guest.get() == b"secret a"
    guest.kbs.faults = [lost, lost]
    assert refused_reason(guest.get) == "kbs.token_verifier_error"
    assert guest.service.calls == CALLS[name] * 3


@EVERY
@pytest.mark.parametrize("status", [429, 503])
def test_busy_service_is_asked_again(name: Service, status: int) -> None:
    guest = Guest(name)
    guest.service.faults = [reply(status)]
    assert guest.get() == b"secret a"
    assert guest.now > 0


@EVERY
@pytest.mark.parametrize("status", [302, 400, 401, 403, 404])
def test_refusal_of_the_service_is_final(name: Service, status: int) -> None:
    guest = Guest(name)
    guest.service.faults = [reply(status)]
    assert refused_reason(guest.get) == "passport.refused"
    assert len(guest.service.calls) == 1
    assert not guest.kbs.calls


@EVERY
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"token": 1}', b'{"token": "a b"}', b'{"token": "a", "x": 1}']
)
def test_reply_that_is_no_token_is_refused(name: Service, body: bytes) -> None:
    guest = Guest(name)
    guest.service.faults = [*[None] * (len(CALLS[name]) - 1), reply(200, body)]
    assert refused_reason(guest.get).startswith("rcar.")
    assert not guest.kbs.calls


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"{}", "passport.nonce.members", id="empty"),
        pytest.param(
            b'{"val": "YQ==", "iat": "YQ==", "signature": ""}', "passport.nonce", id="no signature"
        ),
        pytest.param(
            b'{"val": "a", "iat": "YQ==", "signature": "YQ=="}', "passport.nonce", id="not base64"
        ),
        pytest.param(
            b'{"val": "' + b"YWFh" * 400 + b'", "iat": "YQ==", "signature": "YQ=="}',
            "passport.nonce",
            id="long",
        ),
        pytest.param(b" " * 20_000 + b"{}", "passport.nonce.length", id="too long"),
    ],
)
def test_nonce_outside_the_rule_is_refused_unquoted(version: int, body: bytes, reason: str) -> None:
    def refuse_to_quote(_report_data: ReportData, _request: bytes) -> JsonValue:
        raise AssertionError("evidence was made")

    name = list(Service)[version]
    guest = Guest(name, evidence_for=refuse_to_quote)
    guest.service.faults = [reply(200, body)]
    assert refused_reason(guest.get) == reason


@EVERY
@pytest.mark.parametrize("evidence", [None, [], {}, {"quote": 1}, {"quote": "not base64"}])
def test_evidence_without_a_quote_is_sent_nowhere(name: Service, evidence: JsonValue) -> None:
    guest = Guest(name, evidence_for=lambda _report_data, _request: evidence)
    assert refused_reason(guest.get).startswith("tdx_evidence.")
    assert AZURE_CALL not in guest.service.calls
    assert not guest.kbs.calls


class TestSnp:
    """Azure Attestation and, in version 2, Intel's service are asked about SNP guests, too."""

    CALL = ("POST", "/attest/SevSnpVm?api-version=2025-06-01")

    def test_report_goes_with_its_chain_and_gets_a_token(self) -> None:
        guest = Guest(Service.AZURE, tee=Tee.SNP, evidence_for=snp_evidence)
        assert guest.get() == b"secret a"
        assert guest.service.calls == [self.CALL]

    def test_report_over_another_key_gets_no_token(self) -> None:
        def moved(report_data: ReportData, request: bytes) -> JsonValue:
            return snp_evidence(with_another_end(report_data), request)

        guest = Guest(Service.AZURE, tee=Tee.SNP, evidence_for=moved)
        assert refused_reason(guest.get) == "passport.refused"
        assert not guest.kbs.calls

    def test_report_without_the_whole_chain_is_sent_nowhere(self) -> None:
        guest = Guest(Service.AZURE, tee=Tee.SNP, evidence_for=chainless_evidence)
        assert refused_reason(guest.get) == "passport.certificates"
        assert not guest.service.calls

    def test_intels_service_gets_the_report_alone(self) -> None:
        name = Service.INTEL_TRUST_AUTHORITY_V2
        guest = Guest(name, tee=Tee.SNP, evidence_for=chainless_evidence)
        assert guest.get() == b"secret a"
        assert guest.service.calls == CALLS[name]

    def test_report_over_another_nonce_gets_no_token_of_intels(self) -> None:
        def moved(report_data: ReportData, request: bytes) -> JsonValue:
            return snp_evidence(with_another_end(report_data), request)

        name = Service.INTEL_TRUST_AUTHORITY_V2
        guest = Guest(name, tee=Tee.SNP, evidence_for=moved)
        assert refused_reason(guest.get) == "passport.refused"
        assert not guest.kbs.calls

    def test_quote_is_no_report(self) -> None:
        name = Service.INTEL_TRUST_AUTHORITY_V2
        guest = Guest(name, tee=Tee.SNP, evidence_for=tdx_evidence)
        assert refused_reason(guest.get).startswith("snp_evidence.")

    def test_first_version_of_intels_service_is_not_asked_about_it(self) -> None:
        with pytest.raises(ConfigError) as refused:
            Guest(Service.INTEL_TRUST_AUTHORITY_V1, tee=Tee.SNP)
        assert refused.value.reason == "attest.passport"


@EVERY
def test_other_platform_is_refused_before_anything_is_sent(name: Service) -> None:
    service = SERVICES[name](FakeKbs())
    PassportSource(config(name), transport=service, tee=Tee.TDX, evidence_for=tdx_evidence)
    for tee in (Tee.TPM, Tee.AZ_SNP_VTPM, Tee.AZ_TDX_VTPM):
        with pytest.raises(ConfigError) as refused:
            PassportSource(config(name), transport=service, tee=tee, evidence_for=tdx_evidence)
        assert refused.value.reason == "attest.passport"


def test_services_are_told_apart_by_their_version() -> None:
    for name, other in (
        (Service.INTEL_TRUST_AUTHORITY_V1, Service.INTEL_TRUST_AUTHORITY_V2),
        (Service.INTEL_TRUST_AUTHORITY_V2, Service.INTEL_TRUST_AUTHORITY_V1),
    ):
        service = SERVICES[other](FakeKbs())
        source = PassportSource(
            config(name), transport=service, tee=Tee.TDX, evidence_for=tdx_evidence
        )
        client = KbsClient(
            url=KBS_URL,
            transport=FakeKbs(),
            tee=Tee.TDX,
            evidence_for=tdx_evidence,
            init_data="",
            passport=source,
        )
        assert refused_reason(client.attest) == "passport.refused"
