"""The grant: its one form, and every reason not to take one."""

import json
from typing import Any

import pytest

from ccinit.attest.tee_key import generate_tee_key
from ccinit.errors import CcinitError, FormatError
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.kbs.debug_grant import (
    MAX_GRANT_SECONDS,
    DebugGrant,
    encode_debug_grant,
    parse_debug_grant,
    verify_debug_grant,
)
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm

KEY = generate_tee_key(TeeKeyAlgorithm.P256).public_jwk
OTHER = generate_tee_key(TeeKeyAlgorithm.P256).public_jwk
NOW = 1_800_000_000
GRANT = DebugGrant(
    evidence_key=KEY.thumbprint(),
    expires_s=NOW + 600,
    tools_root=RootHash(b"\xab" * 32),
    keep_pod=False,
)


def changed(**changes: Any) -> bytes:
    value = json.loads(encode_debug_grant(GRANT)) | changes
    return json.dumps({name: one for name, one in value.items() if one is not None}).encode()


def test_grant_for_this_session_and_now_is_taken() -> None:
    assert verify_debug_grant(encode_debug_grant(GRANT), KEY, NOW) == GRANT
    assert json.loads(encode_debug_grant(GRANT)) == {
        "evidence_key": KEY.thumbprint().hex(),
        "expires_s": NOW + 600,
        "tools_root": "ab" * 32,
        "keep_pod": False,
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"evidence_key": OTHER.thumbprint().hex()}, "debug.evidence_key"),
        ({"expires_s": NOW}, "debug.expired"),
        ({"expires_s": NOW - 5}, "debug.expired"),
        ({"expires_s": NOW + MAX_GRANT_SECONDS + 1}, "debug.too_long"),
    ],
)
def test_grant_for_another_session_or_time_is_refused(changes: dict[str, Any], reason: str) -> None:
    assert verify_debug_grant(changed(), KEY, NOW)
    with pytest.raises(CcinitError) as refused:
        verify_debug_grant(changed(**changes), KEY, NOW)
    assert refused.value.reason == reason


def test_grant_until_the_last_second_of_a_day_is_taken() -> None:
    assert verify_debug_grant(changed(expires_s=NOW + MAX_GRANT_SECONDS), KEY, NOW)
    assert verify_debug_grant(changed(expires_s=NOW + 1), KEY, NOW)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"keep_pod": 1}, "debug.grant.keep_pod"),
        ({"keep_pod": None}, "debug.grant.keep_pod"),
        ({"expires_s": "600"}, "debug.grant.expires_s"),
        ({"expires_s": None}, "debug.grant.expires_s"),
        ({"tools_root": "AB" * 32}, "debug.grant.tools_root"),
        ({"tools_root": "ab" * 31}, "debug.grant.tools_root"),
        ({"evidence_key": None}, "debug.grant.evidence_key"),
        ({"shell": "/bin/sh"}, "debug.grant.unknown"),
    ],
)
def test_grant_of_another_form_is_refused(changes: dict[str, Any], reason: str) -> None:
    assert parse_debug_grant(changed()) == GRANT
    with pytest.raises(FormatError) as refused:
        parse_debug_grant(changed(**changes))
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[]", "debug.grant.type"),
        (b"{", "debug.grant.json"),
        (b'{"keep_pod": true, "keep_pod": false}', "debug.grant.duplicate"),
        (b" " * 2000, "debug.grant.length"),
    ],
)
def test_what_is_no_grant_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_debug_grant(data)
    assert refused.value.reason == reason
