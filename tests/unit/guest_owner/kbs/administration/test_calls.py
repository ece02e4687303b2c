"""What an administrator's call does, and what the audit log has of it before it is done."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import CcinitError, ConfigError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.encoding.strict_json import JsonValue
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.resource_uri import ResourceUri, parse_resource_uri
from guest_owner.commands.initdata import make_document
from guest_owner.kbs import exclusion
from guest_owner.kbs.administration.calls import AdminCall
from guest_owner.kbs.audit.log import read_audit
from guest_owner.kbs.minting import IdentityOrder
from guest_owner.kbs.references.measurements.tdx import MAX_EVENTS
from guest_owner.kbs.references.values import References, encode_reference_set
from guest_owner.kbs.refusal import Variant
from guest_owner.kbs.state.store import Store, attestation_key_name
from tests.fakes.documents.guest import CONFIG, POD
from tests.unit.guest_owner.kbs.administration.told_calls import put, refused, told
from tests.unit.guest_owner.kbs.another_holder import held_by_another
from tests.unit.guest_owner.kbs.values import booted_tpm, reference_set

URI = parse_resource_uri("kbs:///ccinit/shop/key", "uri")
VOLUME = parse_resource_uri("kbs:///ccinit/shop/volume-key-data", "uri")
PSK = ResourceUri("ccinit", "shop", "log-psk")
VOLUME_KEY, OTHER_KEY = bytes(range(100, 164)), bytes(range(101, 165))
IMAGE = reference_set()
AK = booted_tpm(IMAGE).public_der


def message(payload: object) -> bytes:
    encoded = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps({"version": "0.1.0", "type": "sample", "payload": encoded}).encode()


MESSAGE = message({"ccinit_reference": encode_reference_set(IMAGE).decode()})
CHANGES: tuple[Callable[[AdminCall], None], ...] = (
    lambda call: call.put_resource(URI.path, b"body"),
    lambda call: call.delete_resource(URI.path),
    lambda call: call.register(MESSAGE),
)


def enveloped(
    data: bytes, *, kind: EnvelopeKind = EnvelopeKind.VOLUME_KEY, uri: ResourceUri = VOLUME
) -> bytes:
    return encode_envelope(Envelope(uri=uri, kind=kind, data=data))


def files(store: Store) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_changes_before_the_log_has_the_call(
    store: Store, log: Path, call: AdminCall, change: Callable[[AdminCall], None]
) -> None:
    store.write_resource(URI, b"before")
    before = files(store)
    log.mkdir()  # so that nothing can be written there
    with pytest.raises(CcinitError) as caught:
        change(call)
    assert caught.value.reason == "audit.write"
    assert files(store) == before
    log.rmdir()
    change(call)
    assert files(store) != before
    assert told(log) == [("accepted", "", "alice")]


def test_what_was_accepted_and_could_not_be_done_has_a_second_record(
    log: Path, call: AdminCall
) -> None:
    variant, status, detail = refused(call.put_resource, URI.path, b"")
    assert (variant, status) == (Variant.PLUGIN_INTERNAL_ERROR, 401)
    assert detail.startswith("resource.size: ")
    assert refused(call.delete_resource, URI.path)[2].startswith("resource.absent: ")
    assert told(log) == [
        ("accepted", "", "alice"),
        ("refused", "resource.size", "alice"),
        ("accepted", "", "alice"),
        ("refused", "resource.absent", "alice"),
    ]


@pytest.mark.parametrize("path", ["", "a/b", "a/b/c/d", "a/../c", "a/b/."])
def test_path_that_is_no_resource_is_refused_and_nothing_was_accepted(
    log: Path, call: AdminCall, path: str
) -> None:
    assert refused(put, call, path, b"x")[2].startswith("resource.path: ")
    for change in (lambda: call.put_resource(path, b"x"), lambda: call.delete_resource(path)):
        assert refused(change)[2].startswith("resource.path: ")
    assert told(log) == 3 * [("refused", "resource.path", "alice")]
    assert not any(one.keys() & {"registered", "replaced"} for one in read_audit(log))
    call.put_resource("a/b/c", b"x")


def test_log_names_all_that_a_message_registers(store: Store, log: Path, call: AdminCall) -> None:
    document = make_document(CONFIG, POD)
    call.register(
        message(
            {
                "ccinit_reference": json.loads(encode_reference_set(IMAGE)),
                "ccinit_attestation_key": base64.b64encode(AK).decode(),
                "ccinit_initdata": document.decode(),
            }
        )
    )
    known = store.read_references()
    assert known.sets == (IMAGE,)
    assert [key.public_der for key in known.attestation_keys] == [AK]
    assert store.read_initdata("shop") == document
    (record,) = read_audit(log)
    assert (
        record["registered"] == f"reference image-1, ak {attestation_key_name(AK)}, initdata shop"
    )
    assert (record["request"], record["administrator"]) == ("POST /path", "alice")


def test_log_has_what_a_call_replaces_or_removes(store: Store, log: Path, call: AdminCall) -> None:
    document = make_document(CONFIG, POD)
    older = document + b"# older\n"
    store.add_initdata("shop", older)
    for _ in range(2):
        call.register(message({"ccinit_initdata": document.decode()}))
    call.put_resource(URI.path, b"secret")
    call.put_resource(URI.path, b"another")
    call.delete_resource(URI.path)
    was = [f"initdata/shop.toml {sha256_digest(data)}" for data in (older, document)]
    resource = f"resources/{URI.path}"  # a digest would help to guess a short secret
    assert [one.get("replaced", "") for one in read_audit(log)] == [*was, "", resource, resource]
    document_only = [one.get("registered", "") for one in read_audit(log)]
    assert document_only == 2 * ["initdata shop"] + 3 * [""]


def test_log_names_an_order_that_a_call_removes(store: Store, log: Path, call: AdminCall) -> None:
    store.write_order(URI, IdentityOrder(3600))
    order = f"minted/{URI.path}"
    digest = sha256_digest((store.root / order).read_bytes())
    call.delete_resource(URI.path)
    assert [one.get("replaced", "") for one in read_audit(log)] == [f"{order} {digest}"]
    assert not store.has_resource(URI)


@pytest.mark.parametrize("change", CHANGES)
def test_call_during_another_change_was_never_accepted(
    store: Store,
    log: Path,
    call: AdminCall,
    change: Callable[[AdminCall], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it replaces is known once nobody else can replace it."""
    store.write_resource(URI, b"before")
    before = files(store)
    monkeypatch.setattr(exclusion, "WAIT_SECONDS", 0.05)
    with held_by_another(store.root):
        assert refused(change, call)[1] == 500
    assert told(log) == [("refused", "state.busy", "alice")]
    assert files(store) == before
    change(call)
    assert told(log)[1:] == [("accepted", "", "alice")]


def test_message_that_is_none_is_refused_and_nothing_was_accepted(
    store: Store, log: Path, call: AdminCall
) -> None:
    before = files(store)
    variant, status, detail = refused(call.register, b"{}")
    assert (variant, status) == (Variant.RVPS_ERROR, 401)
    assert detail.startswith("rvps")
    assert [decision for decision, *_ in told(log)] == ["refused"]
    assert files(store) == before


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (enveloped(b"text"), "volume_key.length"),
        (enveloped(bytes(64)), "volume_key.form"),
        (enveloped(b"short", kind=EnvelopeKind.LOG_PSK), "resource.log_psk"),
        (enveloped(b"text", kind=EnvelopeKind.TLS_IDENTITY), "tls_identity.form"),
        (enveloped(VOLUME_KEY, uri=URI), "envelope.uri"),
    ],
)
def test_body_in_an_envelope_that_no_guest_would_take_is_refused(
    store: Store, call: AdminCall, body: bytes, reason: str
) -> None:
    """As `guest-owner register resource --kind`."""
    _, status, detail = refused(put, call, VOLUME.path, body)
    assert (status, detail.partition(":")[0]) == (401, reason)
    assert not store.has_resource(VOLUME)
    put(call, VOLUME.path, enveloped(VOLUME_KEY))


@pytest.mark.parametrize("tag", ["volume-key-data", "image-key-web"])
def test_body_in_no_envelope_is_judged_by_its_name(
    store: Store, log: Path, call: AdminCall, tag: str
) -> None:
    uri = ResourceUri("ccinit", "bank", tag)
    _, status, detail = refused(put, call, uri.path, b"short")
    assert (status, store.has_resource(uri)) == (401, False)
    assert "found 5" in detail
    assert [one[0] for one in told(log)] == ["refused"]


def test_body_in_no_envelope_is_judged_by_the_documents(
    store: Store, log: Path, call: AdminCall
) -> None:
    bare = CONFIG.replace('"required"', '"none"')
    store.add_initdata("shop", make_document(bare, POD))
    uri = ResourceUri("ccinit", "shop", "file-auth")
    _, status, detail = refused(put, call, uri.path, b"{}")
    assert (status, store.has_resource(uri)) == (401, False)
    assert detail.endswith("initdata shop: expected an object with auths")
    put(call, uri.path, b'{"auths": {}}')
    assert told(log) == [("refused", "resource.unfit", "alice"), ("accepted", "", "alice")]


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("log-psk", b"short", "resource.log_psk"),
        ("log-psk", enveloped(bytes(32), kind=EnvelopeKind.FILE, uri=PSK), "envelope.kind"),
        ("tls-identity", b"text", "tls_identity.form"),
    ],
)
def test_body_is_judged_by_the_name_of_what_every_guest_asks_for(
    store: Store, call: AdminCall, name: str, body: bytes, reason: str
) -> None:
    """With an envelope or without: a guest gives no other resource these names."""
    uri = ResourceUri("ccinit", "shop", name)
    _, status, detail = refused(put, call, uri.path, body)
    assert (status, detail.partition(":")[0]) == (401, reason)
    assert not store.has_resource(uri)
    for other in (f"ccinit/shop/{name}-old", f"others/shop/{name}"):
        put(call, other, b"short")
    put(call, PSK.path, bytes(32))


@pytest.mark.parametrize("body", [b"{}", b'{"v": 1}', enveloped(b"text")[:-1], b"\xff"])
def test_body_without_an_envelope_is_stored_as_it_is(
    store: Store, call: AdminCall, body: bytes
) -> None:
    put(call, URI.path, body)
    assert store.read_resource(URI) == body


def reference_of(subject_bytes: int) -> JsonValue:
    """As many events as there may be, with such a text each."""
    digest = "ab" * 48
    event: JsonValue = {"digest": digest, "subject": subject_bytes * "x"}
    about: dict[str, JsonValue] = {"version": 1, "name": "a", "profile": "prod", "platform": "tdx"}
    registers: dict[str, JsonValue] = dict.fromkeys(("mrtd", "rtmr1", "rtmr2"), digest)
    return about | registers | {"events": {str(index): MAX_EVENTS * [event] for index in (1, 2)}}


def key_of(bits: int) -> str:
    public = RSAPublicNumbers(65537, (1 << bits) - 1).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def document_with(more_bytes: int) -> str:
    return make_document(CONFIG, POD).decode() + "#" + more_bytes * "x"


@pytest.mark.parametrize(
    ("name", "larger", "large"),
    [
        ("ccinit_reference", reference_of(110), reference_of(50)),  # the file is indented
        ("ccinit_attestation_key", key_of(32768), key_of(16384)),
        ("ccinit_initdata", document_with(1 << 20), document_with(1 << 19)),
    ],
)
def test_what_could_not_be_read_back_is_not_registered(
    store: Store, call: AdminCall, name: str, larger: JsonValue, large: JsonValue
) -> None:
    """A file beyond its cap ends every read of the state, and so every request of a guest."""
    variant, status, detail = refused(call.register, message({name: larger}))
    assert (variant, status) == (Variant.RVPS_ERROR, 401)
    assert detail.startswith("register.size: ")
    assert store.read_references() == References()
    call.register(message({name: large}))
    assert store.read_references() != References()


def test_trouble_of_the_kbs_itself_is_no_judgement_of_who_asks(
    store: Store, log: Path, call: AdminCall
) -> None:
    (store.root / "resources").write_bytes(b"a file where a folder has to be")
    variant, status, detail = refused(call.put_resource, URI.path, b"x")
    assert (variant, status) == (Variant.PLUGIN_INTERNAL_ERROR, 500)
    assert detail.startswith("state.")
    assert [decision for decision, *_ in told(log)] == ["accepted", "refused"]
    (store.root / "resources").unlink()
    call.put_resource(URI.path, b"x")
    assert store.read_resource(URI) == b"x"


def test_order_is_not_replaced_by_a_body(store: Store, call: AdminCall) -> None:
    order = IdentityOrder(3600)
    store.write_order(URI, order)
    variant, status, detail = refused(call.put_resource, URI.path, b"x")
    assert (variant, status) == (Variant.PLUGIN_INTERNAL_ERROR, 409)
    assert detail.startswith("resource.minted: ")
    assert store.read_order(URI) == order


@pytest.mark.parametrize("stored", [VOLUME_KEY, enveloped(VOLUME_KEY)], ids=["bare", "enveloped"])
@pytest.mark.parametrize(
    "body",
    [OTHER_KEY, enveloped(OTHER_KEY), b"text", enveloped(b"text", kind=EnvelopeKind.FILE)],
    ids=["another", "another enveloped", "none", "none enveloped"],
)
def test_volume_key_is_replaced_by_nothing_else(
    store: Store, log: Path, call: AdminCall, stored: bytes, body: bytes
) -> None:
    """As `guest-owner register resource`: the store may have its last copy."""
    put(call, VOLUME.path, stored)
    variant, status, detail = refused(put, call, VOLUME.path, body)
    assert (variant, status) == (Variant.PLUGIN_INTERNAL_ERROR, 409)
    assert detail.startswith(f"resource.volume_key: {VOLUME} holds another key")
    assert store.read_resource(VOLUME) == stored
    assert told(log)[1:] == [("refused", "resource.volume_key", "alice")]
    call.delete_resource(VOLUME.path)
    if body == b"text":
        assert refused(put, call, VOLUME.path, body)[2].startswith("volume_key.length: ")
    else:
        put(call, VOLUME.path, body)
        assert store.read_resource(VOLUME) == body


def test_volume_key_that_came_while_another_was_judged_is_kept(
    store: Store, log: Path, call: AdminCall
) -> None:
    """Others are answered between documents, so two administrators may store at the same time."""
    for body in (VOLUME_KEY, OTHER_KEY):
        assert not list(call.judge_resource(VOLUME.path, body))  # no document names it
    call.put_resource(VOLUME.path, VOLUME_KEY)
    variant, status, detail = refused(call.put_resource, VOLUME.path, OTHER_KEY)
    assert (variant, status) == (Variant.PLUGIN_INTERNAL_ERROR, 409)
    assert detail.startswith(f"resource.volume_key: {VOLUME} holds another key")
    assert store.read_resource(VOLUME) == VOLUME_KEY
    assert told(log)[1:] == [
        ("accepted", "", "alice"),
        ("refused", "resource.volume_key", "alice"),
    ]


def test_volume_key_may_come_again(store: Store, call: AdminCall) -> None:
    granted = Envelope(uri=VOLUME, kind=EnvelopeKind.VOLUME_KEY, data=VOLUME_KEY, create=True)
    for body in (VOLUME_KEY, VOLUME_KEY, encode_envelope(granted), enveloped(VOLUME_KEY)):
        put(call, VOLUME.path, body)
        assert store.read_resource(VOLUME) == body


def test_only_reference_values_are_listed(store: Store, log: Path, call: AdminCall) -> None:
    store.add_reference(IMAGE)
    listed = json.loads(encode_reference_set(IMAGE))
    for name in ("", "ccinit_reference"):
        assert json.loads(call.list_references(name)) == {"ccinit_reference": [listed]}
    assert refused(call.list_references, "ccinit_initdata")[:2] == (Variant.RVPS_ERROR, 401)
    assert [decision for decision, *_ in told(log)] == ["accepted", "accepted", "refused"]


def test_list_that_cannot_be_read_is_in_the_log_and_is_trouble_of_the_kbs(
    store: Store, log: Path, call: AdminCall
) -> None:
    store.add_reference(IMAGE)
    (store.root / "references/image-1.json").write_bytes(b"{}")
    with pytest.raises(ConfigError) as caught:
        call.list_references("")
    assert told(log) == [("refused", caught.value.reason, "alice")]


def test_calls_without_a_meaning_are_refused_and_are_in_the_log(log: Path, call: AdminCall) -> None:
    policy, path = call.refuse_policy(), call.refuse_path()
    assert (policy.variant, policy.status) == (Variant.POLICY_ENGINE_ERROR, 501)
    assert (path.variant, path.status) == (Variant.INVALID_REQUEST_PATH, 404)
    assert [(decision, who) for decision, _, who in told(log)] == 2 * [("refused", "alice")]
