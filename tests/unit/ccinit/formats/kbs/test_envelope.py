"""The envelope names its own resource; whatever it does not name is refused."""

import json

import pytest

from ccinit.errors import CcinitError, FormatError, VerificationError
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope, verify_envelope
from ccinit.formats.kbs.resource_uri import ResourceUri

URI = ResourceUri("ccinit", "demo", "volume-key-data")
KEY = Envelope(uri=URI, kind=EnvelopeKind.VOLUME_KEY, data=b"\1" * 64, create=True)
CANARY = b"c4n4ry-in-the-data"


def test_envelope_comes_back_as_it_was() -> None:
    assert verify_envelope(encode_envelope(KEY), URI, EnvelopeKind.VOLUME_KEY) == KEY
    file = Envelope(uri=URI, kind=EnvelopeKind.FILE, data=bytes(700_000))
    assert verify_envelope(encode_envelope(file), URI, EnvelopeKind.FILE) == file


def change(**changes: object) -> bytes:
    value = json.loads(encode_envelope(KEY)) | changes
    return json.dumps({key: item for key, item in value.items() if item is not None}).encode()


@pytest.mark.parametrize(
    ("body", "family", "reason"),
    [
        pytest.param(change(v=2), FormatError, "envelope.v", id="version"),
        pytest.param(change(v=None), FormatError, "envelope.v", id="no-version"),
        pytest.param(change(x=1), FormatError, "envelope.unknown", id="unknown"),
        pytest.param(change(data="%"), FormatError, "envelope.data", id="base64"),
        pytest.param(change(data="QR=="), FormatError, "envelope.data", id="stray-bits"),
        pytest.param(change(kind="key"), FormatError, "envelope.kind", id="kind"),
        pytest.param(change(kind="file"), FormatError, "envelope.create", id="create-a-file"),
        pytest.param(b"{}x", FormatError, "envelope.json", id="json"),
        pytest.param(b'{"v":1,"v":1}', FormatError, "envelope.duplicate", id="duplicate"),
        pytest.param(b"[" * 100_000, FormatError, "envelope.json", id="depth"),
        pytest.param(bytes(1 << 21), FormatError, "envelope.length", id="size"),
        pytest.param(b"\1" * 64, FormatError, "envelope.json", id="bare-key"),
        pytest.param(
            change(uri="kbs:///ccinit/demo/volume-key-other"),
            VerificationError,
            "envelope.uri",
            id="another-resource",
        ),
        pytest.param(
            change(kind="log-psk", create=None),
            VerificationError,
            "envelope.kind",
            id="another-kind",
        ),
    ],
)
def test_envelope_that_is_not_the_resource_asked_for_is_refused(
    body: bytes, family: type[CcinitError], reason: str
) -> None:
    with pytest.raises(family) as caught:
        verify_envelope(body, URI, EnvelopeKind.VOLUME_KEY)
    assert caught.value.reason == reason
    assert str(URI) in caught.value.detail  # else nobody knows which of a pod's resources it is


def test_envelope_text_forms_do_not_show_the_data() -> None:
    envelope = Envelope(uri=URI, kind=EnvelopeKind.FILE, data=CANARY)
    assert CANARY.decode() not in repr(envelope)
    with pytest.raises(FormatError) as caught:
        verify_envelope(b'"' + CANARY, URI, EnvelopeKind.FILE)
    assert CANARY.decode() not in str(caught.value)
