"""What the registered documents say of a resource, in an envelope or not."""

from pathlib import Path

import pytest

from ccinit.errors import FormatError
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.release import MAX_BODY_BYTES, MAX_RELEASED_BYTES
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.pod.secret import MAX_FILES_BYTES
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.state.store import Store
from guest_owner.kbs.state.uses import check_uses
from tests.fakes.documents.guest import CONFIG, FULL_POD
from tests.unit.ccinit.formats.signature.image_policy_cases import KEY, naming
from tests.unit.guest_owner.command_line import error_of, run, write

BARE = CONFIG.replace('"required"', '"none"')
KEY_BYTES = bytes(range(192, 256))
POLICY = naming("kbs:///ccinit/demo/file-signer")
FIT = {
    "log-psk": bytes(32),
    "volume-key-data": KEY_BYTES,
    "image-key": bytes(32),
    "file-policy": POLICY,
    "file-auth": b'{"auths": {"registry.example:5000": {"auth": "YTpi"}}}',
    "file-token": b"token",
}
UNFIT = {
    "log-psk": (bytes(31), "expected at least 32 bytes, found 31"),
    "volume-key-data": (KEY_BYTES[1:], "expected 64 bytes, found 63"),
    "image-key": (b"key", "expected 32 bytes or a private key, found 3 bytes that are neither"),
    "file-policy": (b"{}", "missing [policy.default]"),
    "file-auth": (
        b'{"auths": {"registry.example:5000": {"auth": "YTpi"}, "mirror.example": {"auth": "?"}}}',
        "malformed base64",
    ),
    "file-token": (bytes(MAX_FILES_BYTES), "bytes of files in main"),
}


UNOPENED = 'initdata demo: its kbs.envelope is "none", so the envelope counts as content'


def name(tag: str) -> ResourceUri:
    return ResourceUri("ccinit", "demo", tag)


@pytest.fixture
def store(state: Path) -> Store:
    """Of a pod whose document requires no envelopes."""
    store = Store(state)
    store.add_initdata("demo", make_document(BARE, FULL_POD))
    return store


def refused(store: Store, tag: str, body: bytes) -> str:
    with pytest.raises(FormatError) as caught:
        check_uses(store, name(tag), body)
    assert caught.value.reason == "resource.unfit"
    return caught.value.detail


@pytest.mark.parametrize("tag", FIT)
def test_body_without_an_envelope_is_judged_by_its_use(store: Store, tag: str) -> None:
    assert check_uses(store, name(tag), FIT[tag]) == ()
    body, why = UNFIT[tag]
    said = refused(store, tag, body)
    assert said.startswith(f"no guest would take {name(tag)}: initdata demo: ")
    assert why.partition(" [")[0] in said


@pytest.mark.parametrize("tag", sorted(FIT.keys() - {"file-token"}))  # 1 MiB has no envelope
def test_use_counts_whatever_the_form(store: Store, tag: str) -> None:
    """Who tells of a form that the document does not want is `policy explain`."""
    store.add_initdata("demo", make_document(CONFIG, FULL_POD))
    kind = EnvelopeKind.FILE if tag.startswith("file") else EnvelopeKind(tag.removesuffix("-data"))
    for data, is_fit in ((FIT[tag], True), (UNFIT[tag][0], False)):
        for body in (data, encode_envelope(Envelope(uri=name(tag), kind=kind, data=data))):
            if is_fit:
                assert check_uses(store, name(tag), body) == ()
            else:
                refused(store, tag, body)


def test_name_says_what_no_document_does(store: Store) -> None:
    """DESIGN's names begin with the kind; the documents' word counts more."""
    for tag in ("volume-key", "volume-key-data", "image-key", "image-key-web"):
        unknown = ResourceUri("ccinit", "shop", tag)
        assert check_uses(store, unknown, KEY_BYTES[: 64 if tag.startswith("v") else 32]) == ()
        others = (name(f"x-{tag}"), name(tag.replace("key", "keys")))
        for elsewhere in (ResourceUri("other", "shop", tag), *others):
            assert check_uses(store, elsewhere, b"short") == ()
        body = encode_envelope(Envelope(uri=unknown, kind=EnvelopeKind.FILE, data=b"short"))
        assert check_uses(store, unknown, body) == ()  # an envelope says so itself
        assert check_uses(store, unknown, b"short", EnvelopeKind.FILE) == ()
        with pytest.raises(FormatError) as caught:
            check_uses(store, unknown, b"short")
        assert caught.value.reason in {"volume_key.length", "enc.key"}
    files = 'container = "main"\nfile = "/run/key"\nuri = "kbs:///ccinit/demo/image-key-web"\n'
    store.add_initdata("demo", make_document(BARE, f"{FULL_POD}[[secret]]\n{files}"))
    assert check_uses(store, name("image-key-web"), b"short") == ()


def test_what_a_policy_names_is_judged_as_a_key(store: Store) -> None:
    assert check_uses(store, name("file-signer"), b"no key") == ()
    store.write_resource(name("file-policy"), POLICY)
    assert refused(store, "file-signer", b"no key").endswith("not a PEM public key")
    assert check_uses(store, name("file-signer"), KEY) == ()


def test_documents_that_name_it_not_or_cannot_be_read_say_nothing(store: Store) -> None:
    assert check_uses(store, ResourceUri("ccinit", "demo", "another"), b"demo") == ()
    assert check_uses(store, ResourceUri("ccinit", "shop", "file-auth"), b"{}") == ()
    (store.root / "initdata/demo.toml").write_bytes(b"demo: of another version")
    (store.root / "initdata/folder.toml").mkdir()
    (store.root / "initdata/A stray file").write_bytes(b"demo")
    assert check_uses(store, name("file-auth"), b"{}") == ()


def test_another_resource_that_cannot_be_read_says_nothing(store: Store) -> None:
    store.write_resource(name("file-policy"), POLICY)
    damaged = store.root / "resources/ccinit/demo/file-policy"
    damaged.write_bytes(bytes((1 << 20) + 1))
    assert check_uses(store, name("file-auth"), FIT["file-auth"]) == ()


def test_one_document_whose_guests_would_take_it_is_enough(store: Store) -> None:
    other = FULL_POD.replace('policy = "kbs:///ccinit/demo/file-policy"', "")
    files = 'container = "main"\nfile = "/run/policy"\nuri = "kbs:///ccinit/demo/file-policy"\n'
    store.add_initdata("new", make_document(BARE, f"{other}[[secret]]\n{files}"))
    (why,) = check_uses(store, name("file-policy"), b"plain text")
    assert why.startswith("initdata demo: ")
    assert check_uses(store, name("file-policy"), POLICY) == ()


@pytest.mark.parametrize(
    ("count", "end"), [(3, "found 5"), (4, "; and 1 more"), (9, "; and 6 more")]
)
def test_refusal_by_many_documents_names_the_first_and_counts_the_others(
    store: Store, count: int, end: str
) -> None:
    for number in range(1, count):
        store.add_initdata(f"demo-{number}", make_document(BARE, FULL_POD))
    said = refused(store, "volume-key-data", b"short")
    assert said.endswith(end)
    assert said.count("initdata demo") == 3


def test_more_than_a_pod_can_have_is_refused_but_may_shrink(store: Store) -> None:
    keys = [name(f"key-{number}") for number in range(5)]
    store.write_resource(name("file-policy"), naming(*map(str, keys)))
    for key in keys:
        store.write_resource(key, bytes(900 << 10))
    together = f"expected at most {MAX_RELEASED_BYTES} bytes of resources together"
    assert together in refused(store, "file-token", b"token")
    store.write_resource(name("file-token"), b"token")
    (why,) = check_uses(store, name("file-token"), b"tok")
    assert together in why
    for key in keys:
        store.write_resource(key, bytes(100 << 10))
    assert check_uses(store, name("file-token"), b"a longer token") == ()


def test_envelope_that_nobody_opens_is_told(store: Store) -> None:
    """Else a guest mixes another secret into its log than its owner has, and nobody knows why."""
    uri = name("log-psk")
    body = encode_envelope(Envelope(uri=uri, kind=EnvelopeKind.LOG_PSK, data=bytes(32)))
    assert check_uses(store, uri, body) == (UNOPENED,)
    assert check_uses(store, uri, bytes(32)) == ()
    assert check_uses(store, name("another"), body) == ()
    store.add_initdata("demo", make_document(CONFIG, FULL_POD))
    assert check_uses(store, uri, body) == ()


def test_envelope_that_nobody_opens_is_refused_as_such(store: Store) -> None:
    """The file that was named has 64 bytes, so what was found must be explained."""
    uri = name("volume-key-data")
    body = encode_envelope(Envelope(uri=uri, kind=EnvelopeKind.VOLUME_KEY, data=KEY_BYTES))
    said = f"{UNOPENED}: expected 64 bytes, found {len(body)}"
    assert refused(store, uri.tag, body).endswith(f"/{uri.tag}: {said}")
    store.add_initdata("new", make_document(CONFIG, FULL_POD))
    assert check_uses(store, uri, body) == (said,)


def test_body_that_is_too_long_for_its_envelope_to_be_read_is_told_so(store: Store) -> None:
    """Else it would be judged as one without, by what its container can have."""
    store.add_initdata("demo", make_document(CONFIG, FULL_POD))
    uri = name("file-token")
    short, long = (
        encode_envelope(Envelope(uri=uri, kind=EnvelopeKind.FILE, data=bytes(size)))
        for size in (MAX_BODY_BYTES * 3 // 4 - 300, MAX_FILES_BYTES - 300)
    )
    assert check_uses(store, uri, short) == ()
    with pytest.raises(FormatError) as caught:
        check_uses(store, uri, long)
    assert caught.value.reason == "resource.size"
    assert caught.value.detail.endswith(f"bytes to be sent, found {len(long)}")


def test_command_refuses_and_tells(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "key", b"short")
    words = ("register", "resource", "--state", store.root, name("volume-key-data"), path)
    assert run(*words) == 1
    said = "initdata demo: expected 64 bytes, found 5"
    assert error_of(capsys) == (
        f"guest-owner: {path}: no guest would take {name('volume-key-data')}: {said}"
        " [resource.unfit]\n"
    )
    assert not store.has_resource(name("volume-key-data"))
    path.write_bytes(KEY_BYTES)
    assert run(*words) == 0
    policy = write(tmp_path / "policy.json", POLICY)
    assert run("register", "image-policy", "--state", store.root, name("file-token"), policy) == 0
    assert "note: not every" not in capsys.readouterr().out
    variable = FULL_POD.replace('file = "/run/secrets/token"', 'env = "TOKEN"')
    store.add_initdata("new", make_document(BARE, variable))
    path.write_bytes(b"\xff")
    assert run("register", "resource", "--state", store.root, name("file-token"), path) == 0
    told = "note: not every guest would take it: initdata new: TOKEN: "
    assert told in capsys.readouterr().out
