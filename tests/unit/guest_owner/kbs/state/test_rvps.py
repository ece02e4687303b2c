import base64
import json

import pytest

from ccinit.errors import CcinitError
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.references.values import encode_reference_set
from guest_owner.kbs.state.rvps import encode_references, parse_rvps_message
from guest_owner.trustee.export import rvps_message
from tests.fakes.documents.guest import CONFIG, POD
from tests.unit.guest_owner.kbs.values import booted_tpm, reference_set

IMAGE = reference_set()
AK = base64.b64encode(booted_tpm(IMAGE).public_der).decode()
DOCUMENT = make_document(CONFIG, POD)


def message(payload: object, /, **changes: object) -> bytes:
    encoded = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps({"version": "0.1.0", "type": "sample", "payload": encoded} | changes).encode()


def test_message_registers_what_the_commands_register() -> None:
    text = encode_reference_set(IMAGE).decode()
    for value in (text, json.loads(text), [json.loads(text)]):
        assert parse_rvps_message(message({"ccinit_reference": value})).references == (IMAGE,)
    both = parse_rvps_message(
        message({"ccinit_attestation_key": AK, "ccinit_initdata": [DOCUMENT.decode()]})
    )
    assert both.attestation_keys == (booted_tpm(IMAGE).public_der,)
    assert [(one.document, one.pod_name) for one in both.documents] == [(DOCUMENT, "shop")]
    assert both.references == ()


def test_listed_references_register_again() -> None:
    listed = json.loads(encode_references((IMAGE, reference_set("image-2"))))
    again = parse_rvps_message(message(listed))
    assert again.references == (IMAGE, reference_set("image-2"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "rvps.json"),
        (b"{}", "rvps.members"),
        (message({}, extra=1), "rvps.members"),
        (message({}, version="0.2.0"), "rvps.type"),
        (message({}, type="in-toto"), "rvps.type"),
        (message({}, payload="*"), "rvps.payload"),
        (message([]), "rvps.payload"),
        (message({"tpm_pcr11": ["00"]}), "rvps.name"),
        (rvps_message({"ccinit_tpm_boot": []}), "rvps.name"),
        (message({"ccinit_reference": "{"}), "reference.json"),
        (message({"ccinit_reference": {}}), "reference.version"),
        (message({"ccinit_attestation_key": "AAAA"}), "ak.form"),
        (message({"ccinit_attestation_key": 1}), "rvps.attestation_key"),
        (message({"ccinit_initdata": 1}), "rvps.initdata"),
        (message({"ccinit_initdata": "version = 1"}), "initdata.version"),
        (message({"ccinit_initdata": 2 * [DOCUMENT.decode()]}), "rvps.initdata"),
        (
            message({"ccinit_reference": 2 * [encode_reference_set(IMAGE).decode()]}),
            "rvps.reference",
        ),
    ],
)
def test_malformed_message_is_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_rvps_message(data)
    assert refused.value.reason == reason
