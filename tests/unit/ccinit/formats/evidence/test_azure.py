"""Evidence of Azure's VMs in Trustee's form."""

import base64
from typing import Any

import pytest

from ccinit.errors import FormatError
from ccinit.formats.evidence.azure import AzureEvidence, parse_azure_evidence
from ccinit.formats.evidence.tee import Tee

EVIDENCE = AzureEvidence(
    tee=Tee.AZ_SNP_VTPM,
    message=b"attest",
    signature=b"signature",
    pcrs=tuple(bytes([index]) * 32 for index in range(24)),
    hcl_report=b"HCLA\xff",
    endorsement=b"vcek\xfe",
)


def value() -> dict[str, Any]:
    return EVIDENCE.to_json_value()


@pytest.mark.parametrize(
    ("tee", "member"), [(Tee.AZ_SNP_VTPM, "vcek"), (Tee.AZ_TDX_VTPM, "td_quote")]
)
def test_evidence_has_the_members_of_its_platform(tee: Tee, member: str) -> None:
    evidence = AzureEvidence(
        tee=tee,
        message=b"m",
        signature=b"s",
        pcrs=EVIDENCE.pcrs,
        hcl_report=b"\xfb\xff",
        endorsement=b"e",
    )
    written = evidence.to_json_value()
    assert set(written) == {"version", "tpm_quote", "hcl_report", member}
    assert written["hcl_report"] == "-_8="
    assert parse_azure_evidence(tee, written) == evidence


def test_base64url_may_come_without_padding() -> None:
    written = value()
    written["vcek"] = base64.urlsafe_b64encode(b"vcek\xfe").decode().rstrip("=")
    assert parse_azure_evidence(Tee.AZ_SNP_VTPM, written) == EVIDENCE


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        pytest.param(("version",), 1, "azure_evidence.version", id="an older version"),
        pytest.param(("vcek",), "", "azure_evidence.endorsement", id="no endorsement"),
        pytest.param(("vcek",), "a+b=", "azure_evidence.endorsement", id="standard base64"),
        pytest.param(("hcl_report",), "-_9=", "azure_evidence.hcl_report", id="stray bits"),
        pytest.param(("vcek",), "AA=", "azure_evidence.endorsement", id="half of its padding"),
        pytest.param(("vcek",), "AAAA=", "azure_evidence.endorsement", id="padding for nothing"),
        pytest.param(("vcek",), "=", "azure_evidence.endorsement", id="padding alone"),
        pytest.param(
            ("hcl_report",),
            "A" * 10_924,
            "azure_evidence.hcl_report",
            id="8193 bytes",
        ),
        pytest.param(("hcl_report",), 1, "azure_evidence.hcl_report", id="no text"),
        pytest.param(("hcl_report",), "A" * 20_000, "azure_evidence.hcl_report", id="too long"),
        pytest.param(("tpm_quote", "message"), "AB", "azure_evidence.message", id="upper case"),
        pytest.param(("tpm_quote", "message"), "", "azure_evidence.message", id="empty"),
        pytest.param(("tpm_quote", "message"), 64, "azure_evidence.message", id="a number"),
        pytest.param(("tpm_quote", "message"), "0a" * 4097, "azure_evidence.message", id="long"),
        pytest.param(("tpm_quote", "pcrs"), 24, "azure_evidence.pcrs", id="no array"),
        pytest.param(("tpm_quote", "signature"), "xy", "azure_evidence.signature", id="no hex"),
        pytest.param(("tpm_quote", "pcrs"), ["00" * 32] * 23, "azure_evidence.pcrs", id="23"),
        pytest.param(("tpm_quote", "pcrs"), ["00" * 31] * 24, "azure_evidence.pcrs", id="short"),
    ],
)
def test_other_evidence_is_refused(path: tuple[str, ...], content: object, reason: str) -> None:
    written = value()
    target = written
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = content
    with pytest.raises(FormatError) as error:
        parse_azure_evidence(Tee.AZ_SNP_VTPM, written)
    assert error.value.reason == reason


def test_evidence_of_the_other_platform_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        parse_azure_evidence(Tee.AZ_TDX_VTPM, value())
    assert error.value.reason == "azure_evidence.members"
