"""A file that is an envelope already."""

import io
from pathlib import Path

import pytest

from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope, parse_envelope
from ccinit.formats.kbs.resource_uri import ResourceUri
from guest_owner.kbs.state.store import Store
from tests.unit.guest_owner.command_line import error_of, run, write


def test_envelope_of_another_resource_is_refused(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guest compares the name in it with what it asked for."""
    own, other = (ResourceUri("ccinit", "shop", f"file-{name}") for name in ("own", "other"))
    register = ("register", "resource", "--state", state)
    for uri in (own, other):
        body = encode_envelope(Envelope(uri=uri, kind=EnvelopeKind.FILE, data=b"content"))
        write(tmp_path / uri.tag, body)
    assert run(*register, own, tmp_path / other.tag) == 1
    assert error_of(capsys) == (
        f"guest-owner: {tmp_path / other.tag}: the envelope is that of {other}, not of {own} "
        "[envelope.uri]\n"
    )
    assert not Store(state).has_resource(own)
    assert run(*register, own, tmp_path / own.tag) == 0


def test_nothing_on_standard_input_replaces_nothing(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a pipe brings whose first program has failed."""
    uri = ResourceUri("ccinit", "shop", "file-own")
    register = ("register", "resource", "--state", state, uri, "-", "--kind", "file", "--envelope")
    for content, status in ((b"content", 0), (b"", 1)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert run(*register) == status
    said = "guest-owner: standard input is empty; if that is meant, name a file [resource.size]\n"
    assert error_of(capsys) == said
    assert parse_envelope(Store(state).read_resource(uri)).data == b"content"
    empty = write(state / "empty", b"")
    assert run(*register[:5], empty, *register[6:]) == 0
    assert parse_envelope(Store(state).read_resource(uri)).data == b""
