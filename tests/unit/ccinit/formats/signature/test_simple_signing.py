"""Payloads of classic signatures: exactly the members that count, anything in the others."""

import json
from typing import Any

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding.digest import Digest
from ccinit.formats.signature.simple_signing import SignedImage, parse_simple_signing

HEX = "0123456789abcdef" * 4
CRITICAL: dict[str, Any] = {
    "type": "cosign container image signature",
    "image": {"docker-manifest-digest": f"sha256:{HEX}"},
    "identity": {"docker-reference": "r.example/app:v1"},
}


def payload(optional: object = None, **changes: object) -> bytes:
    return json.dumps({"critical": {**CRITICAL, **changes}, "optional": optional}).encode()


@pytest.mark.parametrize("optional", [None, {}, {"creator": "x", "timestamp": 1_700_000_000}])
def test_payload_names_one_image(optional: object) -> None:
    assert parse_simple_signing(payload(optional)) == SignedImage(
        digests=frozenset({Digest(HEX)}), name="r.example/app:v1"
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(json.dumps({"critical": CRITICAL}).encode(), "members", id="no optional"),
        pytest.param(b'{"critical": [], "optional": null}', "type", id="no object"),
        pytest.param(payload(more=1), "members", id="a critical member more"),
        pytest.param(payload(type="atomic container signature"), "type", id="another type"),
        pytest.param(
            payload(image={"docker-manifest-digest": 5}), "docker-manifest-digest", id="5"
        ),
        pytest.param(
            payload(image={"docker-manifest-digest": f"sha512:{HEX}{HEX}"}), "digest", id="sha512"
        ),
        pytest.param(
            payload(image={"docker-manifest-digest": f"sha256:{HEX}", "x": 1}),
            "members",
            id="more of the image",
        ),
        pytest.param(payload(identity={}), "members", id="no name"),
        pytest.param(payload(identity={"docker-reference": None}), "docker-reference", id="none"),
        pytest.param(
            payload().replace(b'"type"', b'"type": "x", "type"'), "duplicate", id="a member twice"
        ),
    ],
)
def test_payload_of_another_form_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_simple_signing(data)
    assert refused.value.reason == f"signature.payload.{reason}"
