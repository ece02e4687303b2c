"""What an owner says of a launch, and what its log-psk vouches for."""

import hmac
import json

import pytest

from ccinit.errors import CcinitError, FormatError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.encoding.strict_json import parse_json
from ccinit.formats.kbs.launch_secret import (
    STATEMENT,
    LaunchStatement,
    encode_launch_statement,
    is_guid,
    parse_launch_statement,
    verify_log_voucher,
    vouch_for_log,
)

SAID = LaunchStatement(initdata=sha256_digest(b"document"), date=1_790_000_000)
PSK, REPORT_DATA = b"p" * 32, bytes(range(64))


def test_statement_is_read_and_written() -> None:
    assert parse_launch_statement(encode_launch_statement(SAID)) == SAID


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("v", 2, "launch_statement.v"),
        ("v", None, "launch_statement.v"),
        ("initdata", "sha384:" + "0" * 96, "launch_statement.initdata"),
        ("initdata", "sha256:" + "0" * 63, "launch_statement.initdata"),
        ("initdata", "0" * 64, "launch_statement.initdata"),
        ("date", -1, "launch_statement.date"),
        ("date", "now", "launch_statement.date"),
        ("key", "AAAA", "launch_statement.unknown"),
    ],
)
def test_statement_of_another_form_is_refused(member: str, value: object, reason: str) -> None:
    said = json.loads(encode_launch_statement(SAID))
    with pytest.raises(FormatError) as refused:
        parse_launch_statement(json.dumps({**said, member: value}).encode())
    assert refused.value.reason == reason


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"{", b" " * 4097])
def test_other_bytes_are_no_statement(data: bytes) -> None:
    with pytest.raises(FormatError) as refused:
        parse_launch_statement(data)
    assert refused.value.reason.startswith("launch_statement.")


@pytest.mark.parametrize(
    "name",
    [
        STATEMENT.upper(),
        STATEMENT.replace("-", ""),
        STATEMENT[:-1],
        STATEMENT + "0",
        STATEMENT[:-1] + "g",
        "..",
        "",
    ],
)
def test_names_are_those_of_linux(name: str) -> None:
    assert is_guid(STATEMENT)
    assert not is_guid(name)


def test_psk_vouches_for_one_log() -> None:
    voucher = parse_json(vouch_for_log(PSK, REPORT_DATA), "test", 4096)
    assert verify_log_voucher(voucher, PSK, REPORT_DATA) == REPORT_DATA
    for psk, report_data in ((b"q" * 32, REPORT_DATA), (PSK, bytes(64))):
        with pytest.raises(CcinitError) as refused:
            verify_log_voucher(voucher, psk, report_data)
        assert refused.value.reason == "launch_voucher.mac"


def test_r88_voucher_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other comparison decides: where this one says yes, a wrong voucher passes."""
    voucher = parse_json(vouch_for_log(b"q" * 32, REPORT_DATA), "test", 4096)
    with pytest.raises(CcinitError):
        verify_log_voucher(voucher, PSK, REPORT_DATA)
    monkeypatch.setattr(hmac, "compare_digest", lambda _found, _expected: True)
    assert verify_log_voucher(voucher, PSK, REPORT_DATA) == REPORT_DATA


@pytest.mark.parametrize("voucher", [{}, {"mac": 7}, {"mac": "", "more": ""}, [], "x", None])
def test_other_values_vouch_for_nothing(voucher: object) -> None:
    with pytest.raises(FormatError) as refused:
        verify_log_voucher(voucher, PSK, REPORT_DATA)  # type: ignore[arg-type]
    assert refused.value.reason.startswith("launch_voucher.")


def test_short_psk_vouches_for_nothing() -> None:
    assert vouch_for_log(b"p" * 32, REPORT_DATA)
    with pytest.raises(FormatError) as refused:
        vouch_for_log(b"p" * 31, REPORT_DATA)
    assert refused.value.reason == "launch_secret.log_psk"
