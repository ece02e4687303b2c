"""The text of a sealed secret: what it names, and every way out of it."""

import json

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding.strict_json import encode_base64url
from ccinit.formats.kbs.sealed_secret import parse_sealed_secret
from tests.fakes.kbs.sealed_secrets import HEADER, KEY_URI, PAYLOAD, part, seal

WHERE = "secret"


def test_sealed_secret_names_a_resource_and_the_key_that_vouches_for_it() -> None:
    text = seal()
    sealed = parse_sealed_secret(text, WHERE)
    assert str(sealed.key) == KEY_URI
    assert str(sealed.resource) == PAYLOAD["name"]
    assert sealed.signed == text.removeprefix("sealed.").rpartition(".")[0].encode()
    assert len(sealed.signature) == 64


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(seal().removeprefix("sealed."), WHERE, id="prefix"),
        pytest.param(seal().replace("sealed.", "opened."), WHERE, id="another-prefix"),
        pytest.param(seal() + ".x", WHERE, id="parts"),
        pytest.param(seal() + "AA", WHERE, id="long-signature"),
        pytest.param(seal() + "=", WHERE, id="padding"),
        pytest.param(seal(HEADER | {"alg": "none"}), f"{WHERE}.header", id="alg"),
        pytest.param(seal(HEADER | {"kid": "key.jwk"}), f"{WHERE}.header", id="local-key"),
        pytest.param(seal(HEADER | {"jwk": {}}), f"{WHERE}.header.members", id="own-key"),
        pytest.param(seal(payload={"type": "envelope"}), f"{WHERE}.payload", id="cloud-key"),
        pytest.param(seal(payload=PAYLOAD | {"type": "other"}), f"{WHERE}.payload", id="type"),
        pytest.param(seal(payload=PAYLOAD | {"provider": "aws"}), f"{WHERE}.payload", id="cloud"),
        pytest.param(seal(payload=PAYLOAD | {"version": "0.2.0"}), f"{WHERE}.payload", id="new"),
        pytest.param(seal(payload=PAYLOAD | {"name": "x"}), f"{WHERE}.payload", id="name"),
        pytest.param(
            seal(payload=PAYLOAD | {"annotations": {"a": 1}}), f"{WHERE}.payload", id="annotation"
        ),
        pytest.param(
            seal(payload=PAYLOAD | {"provider_settings": {"a": 1}}),
            f"{WHERE}.payload",
            id="provider-settings",
        ),
        pytest.param(
            seal(payload={"type": "vault"}), f"{WHERE}.payload.members", id="missing-members"
        ),
        pytest.param(seal(payload=[]), f"{WHERE}.payload.type", id="no-object"),
    ],
)
def test_sealed_secret_of_another_form_is_refused(text: str, reason: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_sealed_secret(text, WHERE)
    assert error.value.reason == reason


def test_sealed_secret_that_is_no_json_or_too_long_is_refused() -> None:
    signature = seal().rpartition(".")[2]
    for payload, reason in (
        (b"{", f"{WHERE}.payload.json"),
        (json.dumps(PAYLOAD | {"name": "x" * 3000}).encode(), f"{WHERE}.payload.length"),
    ):
        text = f"sealed.{part(HEADER)}.{encode_base64url(payload)}.{signature}"
        with pytest.raises(FormatError) as error:
            parse_sealed_secret(text, WHERE)
        assert error.value.reason == reason
