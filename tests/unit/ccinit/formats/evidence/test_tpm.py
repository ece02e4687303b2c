"""Trustee's `tpm` evidence, and a public key's DER against another implementation."""

import copy
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.evidence.tpm import TpmEvidence, encode_rsa_public_key, parse_tpm_evidence

EVIDENCE = TpmEvidence(
    message=b"message",
    signature=b"signature",
    pcrs=tuple(bytes((pcr,)) * 32 for pcr in range(24)),
    ak_public_der=b"key",
)


def test_evidence_has_the_verifiers_json() -> None:
    assert EVIDENCE.to_json_value() == {
        "tpm_quote": {
            "signature": "c2lnbmF0dXJl",
            "message": "bWVzc2FnZQ==",
            "pcrs": [f"{pcr:02x}" * 32 for pcr in range(24)],
        },
        "ak_public": "a2V5",
    }
    assert parse_tpm_evidence(EVIDENCE.to_json_value()) == EVIDENCE


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        pytest.param(("ak_public",), "", "tpm_evidence.ak_public", id="empty key"),
        pytest.param(("ak_public",), None, "tpm_evidence.ak_public", id="no key"),
        pytest.param(("new",), 1, "tpm_evidence.members", id="unknown member"),
        pytest.param(("tpm_quote",), [], "tpm_evidence.type", id="no quote"),
        pytest.param(("tpm_quote", "new"), 1, "tpm_evidence.members", id="unknown part"),
        pytest.param(("tpm_quote", "message"), "?", "tpm_evidence.message", id="not base64"),
        pytest.param(("tpm_quote", "message"), "A" * 8192, "tpm_evidence.message", id="long"),
        pytest.param(("tpm_quote", "message"), "", "tpm_evidence.message", id="empty"),
        pytest.param(("tpm_quote", "signature"), 5, "tpm_evidence.signature", id="number"),
        pytest.param(("tpm_quote", "signature"), "", "tpm_evidence.signature", id="unsigned"),
        pytest.param(("tpm_quote", "signature"), "A" * 8192, "tpm_evidence.signature", id="longer"),
        pytest.param(("tpm_quote", "pcrs"), 24, "tpm_evidence.pcrs", id="not an array"),
        pytest.param(("tpm_quote", "pcrs"), ["00" * 32] * 23, "tpm_evidence.pcrs", id="23"),
        pytest.param(("tpm_quote", "pcrs"), ["00" * 32] * 25, "tpm_evidence.pcrs", id="25"),
        pytest.param(("tpm_quote", "pcrs"), ["00" * 20] * 24, "tpm_evidence.pcrs", id="sha1"),
        pytest.param(("tpm_quote", "pcrs"), ["AA" * 32] * 24, "tpm_evidence.pcrs", id="upper"),
        pytest.param(("tpm_quote", "pcrs"), ["x" * 64] * 24, "tpm_evidence.pcrs", id="not hex"),
        pytest.param(("tpm_quote", "pcrs"), [0] * 24, "tpm_evidence.pcrs", id="numbers"),
    ],
)
def test_evidence_with_one_wrong_part_is_refused(
    path: tuple[str, ...], value: JsonValue, reason: str
) -> None:
    good = EVIDENCE.to_json_value()
    parse_tpm_evidence(good)
    changed = cast("dict[str, object]", copy.deepcopy(good))
    table = changed
    for name in path[:-1]:
        table = cast("dict[str, object]", table[name])
    table[path[-1]] = value
    with pytest.raises(FormatError) as refused:
        parse_tpm_evidence(cast("JsonValue", changed))
    assert refused.value.reason == reason


@pytest.mark.parametrize(("bits", "exponent"), [(1024, 3), (2048, 65537), (3072, 65537)])
def test_public_key_is_the_der_of_another_implementation(bits: int, exponent: int) -> None:
    key = rsa.generate_private_key(public_exponent=exponent, key_size=bits).public_key()
    modulus = key.public_numbers().n.to_bytes(bits // 8, "big")
    assert encode_rsa_public_key(modulus, exponent) == key.public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
