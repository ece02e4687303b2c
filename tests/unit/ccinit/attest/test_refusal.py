"""What each refusal means: by its type, unless the status says that the KBS could not judge."""

import json

import pytest

from ccinit.attest.refusal import Remedy, refusal
from ccinit.formats.kbs.rcar import ERROR_PREFIX
from tests.fakes.kbs.http import UNEXPLAINED


def body(variant: str, detail: str = "why") -> bytes:
    return json.dumps({"type": ERROR_PREFIX + variant, "detail": detail}).encode()


@pytest.mark.parametrize(
    ("variant", "reason", "remedy"),
    [
        ("AdminAuthAccess", "kbs.admin_auth_access", Remedy.STOP),
        ("AttestationError", "kbs.attestation_error", Remedy.STOP),
        ("InvalidRequestPath", "kbs.invalid_request_path", Remedy.STOP),
        ("JweError", "kbs.jwe_error", Remedy.STOP),
        ("ParsePolicyError", "kbs.policy_engine_error", Remedy.STOP),
        ("PluginInternalError", "kbs.plugin_internal_error", Remedy.STOP),
        ("PluginNotFound", "kbs.plugin_not_found", Remedy.STOP),
        ("PolicyDeny", "kbs.policy_deny", Remedy.STOP),
        ("PolicyEngineError", "kbs.policy_engine_error", Remedy.STOP),
        ("PrometheusError", "kbs.prometheus_error", Remedy.STOP),
        ("RvpsError", "kbs.rvps_error", Remedy.STOP),
        ("SerdeError", "kbs.serde_error", Remedy.STOP),
        ("TokenNotFound", "kbs.token_not_found", Remedy.ATTEST_AGAIN),
        ("TokenVerifierError", "kbs.token_verifier_error", Remedy.ATTEST_AGAIN),
    ],
)
@pytest.mark.parametrize("status", [401, 403, 404])
def test_type_decides(variant: str, reason: str, remedy: Remedy, status: int) -> None:
    error = refusal(status, body(variant))
    assert (error.reason, error.remedy) == (reason, remedy)
    assert str(status) in error.detail
    assert "why" in error.detail


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        ("AttestationError", "kbs.attestation_error"),
        ("PluginInternalError", "kbs.plugin_internal_error"),
        ("TokenNotFound", "kbs.token_not_found"),
    ],
)
def test_trouble_of_the_kbs_itself_is_no_judgement(variant: str, reason: str, status: int) -> None:
    error = refusal(status, body(variant))
    assert (error.reason, error.remedy) == (reason, Remedy.RETRY)
    assert refusal(401, body(variant)).remedy is not Remedy.RETRY


def test_version_mismatch_has_a_reason_of_its_own() -> None:
    detail = "KBS Client Protocol Version Mismatch: expect =0.5.0 while the request is 0.4.0"
    assert refusal(401, body("AttestationError", detail)).reason == "kbs.version"
    assert refusal(401, body("PolicyDeny", detail)).reason == "kbs.policy_deny"


def test_failed_handshake_without_a_cause_may_be_a_session_that_is_gone() -> None:
    error = refusal(401, body("AttestationError", UNEXPLAINED))
    assert (error.reason, error.remedy) == ("kbs.attestation_error", Remedy.ATTEST_AGAIN)
    explained = f"{UNEXPLAINED}: pcr.9 is not as predicted"
    assert refusal(401, body("AttestationError", explained)).remedy is Remedy.STOP
    assert refusal(401, body("PolicyDeny", UNEXPLAINED)).remedy is Remedy.STOP
    assert refusal(503, body("AttestationError", UNEXPLAINED)).remedy is Remedy.RETRY


@pytest.mark.parametrize("text", [b"", b"<html>", b"{}", b"[1]", b'{"type": 1, "detail": ""}'])
@pytest.mark.parametrize(
    ("status", "reason", "remedy"),
    [
        (301, "kbs.redirect", Remedy.STOP),
        (307, "kbs.redirect", Remedy.STOP),
        (400, "kbs.status", Remedy.STOP),
        (401, "kbs.status", Remedy.STOP),
        (403, "kbs.forbidden", Remedy.STOP),
        (404, "kbs.status", Remedy.STOP),
        (418, "kbs.status", Remedy.STOP),
        (204, "kbs.status", Remedy.STOP),
        (408, "kbs.busy", Remedy.RETRY),
        (429, "kbs.busy", Remedy.RETRY),
        (500, "kbs.busy", Remedy.RETRY),
        (502, "kbs.busy", Remedy.RETRY),
        (503, "kbs.busy", Remedy.RETRY),
        (504, "kbs.busy", Remedy.RETRY),
    ],
)
def test_r32_status_decides_without_a_type(
    text: bytes, status: int, reason: str, remedy: Remedy
) -> None:
    error = refusal(status, text)
    assert (error.reason, error.remedy) == (reason, remedy)


def test_unknown_type_is_judged_by_its_status() -> None:
    assert refusal(503, body("SomethingNew")).reason == "kbs.busy"
    assert refusal(401, body("SomethingNew")).reason == "kbs.status"
    elsewhere = json.dumps({"type": "https://elsewhere/PolicyDeny", "detail": ""}).encode()
    assert refusal(401, elsewhere).reason == "kbs.status"


def test_detail_is_cut_and_quoted() -> None:
    error = refusal(401, body("PolicyDeny", "\x1b[2J\n" + "x" * 8000))
    assert len(error.detail) < 600
    assert error.detail.isprintable()
