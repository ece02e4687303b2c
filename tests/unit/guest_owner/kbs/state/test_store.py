import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ccinit.errors import CcinitError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.kbs.rollback_counter import counter_uri
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.administration.administrators import add_administrator, read_administrators
from guest_owner.kbs.references.initdata import parse_registrable_initdata
from guest_owner.kbs.references.values import Profile, register_initdata
from guest_owner.kbs.state.counters import Counters
from guest_owner.kbs.state.store import Store
from guest_owner.toml_text import quote
from tests.fakes.documents.guest import CONFIG, POD
from tests.fakes.machine.scarcity import room_for
from tests.fakes.network.tls_server import make_authority
from tests.fakes.platforms.tpm_quote import FakeTpm, rsa_key
from tests.fakes.platforms.ultravisor import host_key_document
from tests.unit.guest_owner.command_line import SM2_PUBLIC_KEY
from tests.unit.guest_owner.kbs.snp_values import REQUIREMENTS
from tests.unit.guest_owner.kbs.values import reason_of, reference_set
from tests.unit.guest_owner.kbs.verifiers.tdx_values import REQUIREMENTS_TOML

URI = ResourceUri("ccinit", "shop", "key")
DOCUMENT = b'algorithm="sha256"\nversion="0.1.0"\n[data]\n"ccinit.toml"=""\n"pod.toml"=""\n'
SMALL_VOLUME = """
[[volume]]
name = "data"
kind = "persistent"
size_bytes = 16777216
key = "kbs:///ccinit/shop/volume-key-data"
"""
ATTESTATION_KEY = FakeTpm(key=rsa_key(0)).public_der
ROOT = make_authority().pem.encode()
ADMIN_KEY = (
    Ed25519PrivateKey.from_private_bytes(bytes(32))
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)


def document_with(pod_toml: str) -> bytes:
    """A document that nobody has judged."""
    files = f'"ccinit.toml" = {quote(CONFIG)}\n"pod.toml" = {quote(pod_toml)}\n'
    return f'algorithm = "sha256"\nversion = "0.1.0"\n[data]\n{files}'.encode()


def test_store_without_a_directory_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CcinitError) as caught:
        Store(tmp_path / "absent")
    assert caught.value.reason == "state.missing"
    assert "kbs init" in caught.value.detail
    (tmp_path / "file").touch()
    with pytest.raises(CcinitError, match="is not a directory") as caught:
        Store(tmp_path / "file")
    assert caught.value.reason == "state.directory"


def test_registrations_are_read_as_they_were_added(store: Store) -> None:
    assert store.read_references().sets == ()
    key = FakeTpm(key=rsa_key(0)).public_der
    store.add_reference(reference_set("a"))
    store.add_reference(reference_set("b", Profile.TEST))
    store.add_attestation_key("node", key)
    store.add_initdata("shop", DOCUMENT)
    known = store.read_references()
    assert known.sets == (reference_set("a"), reference_set("b", Profile.TEST))
    assert [entry.public_der for entry in known.attestation_keys] == [key]
    assert known.initdata == (register_initdata("shop", DOCUMENT),)


def test_registration_that_finds_no_room_registers_nothing_of_its_call(store: Store) -> None:
    references = (reference_set("a"), reference_set("b"))
    large = DOCUMENT + b"#" * 4096
    with room_for(4096):
        assert reason_of(store.register, references, {}, {"shop": large}) == "state.write"
    known = store.read_references()
    assert (known.sets, known.initdata) == ((), ())
    store.register(references, {}, {"shop": large})
    known = store.read_references()
    assert (known.sets, len(known.initdata)) == (references, 1)


def test_add_reference_replaces_a_set_of_its_name_even_with_another_profile(store: Store) -> None:
    known = reference_set("a")
    store.add_reference(known)
    store.add_reference(replace(known, profile=Profile.TEST))
    assert [entry.profile for entry in store.read_references().sets] == [Profile.TEST]


def test_add_reference_refuses_known_registers_under_another_profile(store: Store) -> None:
    store.add_reference(reference_set("a"))
    other = replace(reference_set("a"), name="b", profile=Profile.TEST)
    assert reason_of(store.add_reference, other) == "reference.profile"
    assert len(store.read_references().sets) == 1


def test_add_attestation_key_refuses_what_is_no_key(store: Store) -> None:
    assert reason_of(store.add_attestation_key, "node", b"no key") == "ak.form"
    key = FakeTpm(key=rsa_key(0)).public_der
    assert reason_of(store.add_attestation_key, "../node", key) == "ak.name"
    store.add_attestation_key("node", key)


@pytest.mark.parametrize("name", ["../x", "", ".x", "a/b", "a\0b"])
@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (lambda store, name: store.add_attestation_key(name, ATTESTATION_KEY), "ak.name"),
        (lambda store, name: store.add_root(name, Tee.SNP, ROOT), "root.name"),
        (lambda store, name: store.add_issuer(name, b"", b""), "issuer.name"),
        (lambda store, name: store.add_initdata(name, DOCUMENT), "initdata.name"),
        (lambda store, name: store.read_pod_name(name, sha256_digest(DOCUMENT)), "initdata.name"),
        (lambda store, name: add_administrator(store.root, name, ADMIN_KEY), "admin.name"),
    ],
    ids=["ak", "root", "issuer", "initdata", "pod", "admin"],
)
def test_name_that_is_a_path_registers_nothing(
    store: Store, add: Callable[[Store, str], object], reason: str, name: str
) -> None:
    assert reason_of(add, store, name) == reason
    assert list(store.root.parent.iterdir()) == [store.root]
    assert [path.name for path in store.root.iterdir()] == ["policy.toml"]


def test_machine_of_secure_execution_has_a_key_on_its_curve(store: Store) -> None:
    assert reason_of(store.add_root, "z16", Tee.SE, ROOT) == "se.host_key"
    assert store.read_references().roots == ()
    store.add_root("z16", Tee.SE, host_key_document(0).public_bytes(Encoding.PEM))
    assert [root.name for root in store.read_references().roots] == ["z16"]


def test_no_more_machines_are_registered_than_one_request_can_ask(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (host_key_document(number).public_bytes(Encoding.PEM) for number in (0, 1))
    monkeypatch.setattr("guest_owner.kbs.attestation_requests.se.MAX_HOST_KEYS", 1)
    store.add_root("z16", Tee.SE, first)
    assert reason_of(store.add_root, "z17", Tee.SE, second) == "se.host_key"
    store.add_root("z16", Tee.SE, second)
    assert [root.name for root in store.read_references().roots] == ["z16"]


def test_folder_takes_no_more_than_can_be_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guest_owner.kbs.state.registrations.MAX_ENTRIES", 2)
    for name in ("a", "b", "b"):
        store.add_reference(reference_set(name))
    with pytest.raises(CcinitError, match="remove what is not needed") as caught:
        store.add_reference(reference_set("c"))
    assert caught.value.reason == "state.entries"
    assert [known.name for known in store.read_references().sets] == ["a", "b"]
    (store.root / "references/a.json").unlink()
    store.add_reference(reference_set("c"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"documents": {"shop": b"[data]"}}, "initdata.version"),
        ({"attestation_keys": {"node": b"no key"}}, "ak.form"),
        ({"documents": {"a": DOCUMENT, "b": DOCUMENT, "c": DOCUMENT}}, "state.entries"),
        (
            {
                "references": (
                    reference_set("a"),
                    replace(reference_set("a"), name="b", profile=Profile.TEST),
                )
            },
            "reference.profile",
        ),
    ],
)
def test_registrations_of_one_message_are_all_made_or_none(
    store: Store, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], reason: str
) -> None:
    monkeypatch.setattr("guest_owner.kbs.state.registrations.MAX_ENTRIES", 2)
    good: dict[str, Any] = {
        "references": (reference_set("a"),),
        "attestation_keys": {"node": ATTESTATION_KEY},
        "documents": {"shop": DOCUMENT},
    }
    with pytest.raises(CcinitError) as caught:
        store.register(**good | change)
    assert caught.value.reason == reason
    known = store.read_references()
    assert (known.sets, known.attestation_keys, known.initdata) == ((), (), ())
    store.register(**good)
    known = store.read_references()
    assert [len(some) for some in (known.sets, known.attestation_keys, known.initdata)] == [1] * 3


def test_key_that_seals_requests_is_made_once_and_only_where_they_are(store: Store) -> None:
    store.add_root("amd", Tee.SNP, ROOT)
    assert store.read_references().request_key is None
    store.add_root("z16", Tee.SE, host_key_document(0).public_bytes(Encoding.PEM))
    key = store.read_references().request_key
    assert key is not None
    store.add_root("z17", Tee.SE, host_key_document(1).public_bytes(Encoding.PEM))
    assert store.read_references().request_key == key
    path = store.root / "request.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(key[:-1])
    with pytest.raises(CcinitError, match="expected 32 bytes, found 31") as caught:
        store.read_references()
    assert caught.value.reason == "state.request_key"


def test_add_initdata_refuses_what_the_guest_would_refuse(store: Store) -> None:
    assert reason_of(store.add_initdata, "shop", b"[data]") == "initdata.version"
    sha512 = DOCUMENT.replace(b"sha256", b"sha512")
    assert reason_of(store.add_initdata, "shop", sha512) == "initdata.algorithm"
    for algorithm in (b"sha256", b"sha384"):
        store.add_initdata("shop", DOCUMENT.replace(b"sha256", algorithm))


def test_registered_initdata_has_the_digest_of_every_platform(store: Store) -> None:
    store.add_initdata("shop", DOCUMENT)
    (registered,) = store.read_references().initdata
    assert registered.digest_by("sha256") == hashlib.sha256(DOCUMENT).digest()
    assert registered.digest_by("sha384") == hashlib.sha384(DOCUMENT).digest()


def test_pod_is_told_of_the_document_that_a_guest_was_bound_to_and_of_no_other(
    store: Store,
) -> None:
    first, second = (make_document(CONFIG, POD.replace('"shop"', f'"{pod}"')) for pod in ("a", "b"))
    bound, other = sha256_digest(first), sha256_digest(second)
    store.add_initdata("shop", first)
    assert store.read_pod_name("shop", bound) == "a"
    store.add_initdata("shop", second)
    assert store.read_pod_name("shop", other) == "b"
    assert reason_of(store.read_pod_name, "shop", bound) == "initdata.replaced"


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (f"of_a_newer_version = 1\n{POD}", "pod.unknown"),
        (POD + SMALL_VOLUME, "pod.volume.size_bytes"),  # older versions took it
    ],
)
def test_pod_of_a_registered_document_is_told_whichever_version_it_is_for(
    store: Store, pod: str, reason: str
) -> None:
    document = document_with(pod)
    store.add_initdata("shop", document)
    assert store.read_pod_name("shop", sha256_digest(document)) == "shop"
    assert reason_of(parse_registrable_initdata, document) == reason


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        ('version = 1\nname = "Shop"', "pod.name"),
        ("version = 1\nname = 1", "pod.name"),
        ("version = 1", "pod.name"),
        ('version = 1\nname = "shop"\nname = "bank"', "pod.toml"),
        ('version = 2\nname = "shop"', "pod.version"),
    ],
)
def test_document_that_names_no_pod_is_of_none(store: Store, pod: str, reason: str) -> None:
    document = document_with(pod)
    store.add_initdata("shop", document)
    assert reason_of(store.read_pod_name, "shop", sha256_digest(document)) == reason


def test_vendor_roots_are_kept_by_platform(store: Store) -> None:
    first, second = make_authority().pem.encode(), make_authority().pem.encode()
    store.add_root("amd", Tee.SNP, first + second)
    store.add_root("intel", Tee.TDX, first)
    amd, intel = store.read_references().roots
    assert (amd.name, amd.platform, len(amd.certificates)) == ("amd", Tee.SNP, 2)
    assert (intel.name, intel.platform) == ("intel", Tee.TDX)
    assert intel.certificates == amd.certificates[:1]


def test_requirements_are_kept_by_platform(store: Store) -> None:
    demanded = store.set_requirements(Tee.SNP, REQUIREMENTS)
    assert store.read_references().requirements == (demanded,)
    assert reason_of(store.set_requirements, Tee.SNP, b"version = 1") == "requirements.product"
    assert reason_of(store.set_requirements, Tee.TPM, REQUIREMENTS) == "requirements.platform"
    assert store.read_references().requirements == (demanded,)
    (store.root / "requirements/tpm.toml").write_bytes(REQUIREMENTS)
    assert reason_of(store.read_references) == "root.platform"


def test_requirements_are_known_by_their_text(store: Store) -> None:
    assert store.read_references().demands == {}
    store.set_requirements(Tee.SNP, REQUIREMENTS)
    before = store.read_references()
    assert before.demands == {Tee.SNP: sha256_digest(REQUIREMENTS)}
    basis = before.basis_of(Tee.SNP, ())
    store.set_requirements(Tee.TDX, REQUIREMENTS_TOML.encode())
    assert store.read_references().includes(basis)
    store.set_requirements(Tee.SNP, REQUIREMENTS.replace(b"snp = 24", b"snp = 25"))
    assert not store.read_references().includes(basis)


def test_add_root_refuses_what_no_vendor_signs(store: Store) -> None:
    pem = make_authority().pem.encode()
    assert reason_of(store.add_root, "amd", Tee.SNP, b"no certificate") == "root.form"
    assert reason_of(store.add_root, "amd", Tee.SNP, 9 * pem) == "root.form"
    assert reason_of(store.add_root, "amd", Tee.TPM, pem) == "root.platform"
    assert reason_of(store.add_root, "../amd", Tee.SNP, pem) == "root.name"
    assert store.add_root("amd", Tee.SNP, 8 * pem)


@pytest.mark.parametrize(
    ("file", "reason", "read"),
    [
        ("references/b.json", "reference.json", Store.read_references),
        ("roots/snp/b.pem", "root.form", Store.read_references),
        ("requirements/snp.toml", "requirements.toml", Store.read_references),
        ("issuers/b.toml", "issuer.toml", Store.read_issuers),
        ("issuer-keys/b.json", "issuer.keys.json", Store.read_issuers),
        ("admin-keys/b.pem", "admin.key", lambda store: read_administrators(store.root)),
        ("policy.toml", "policy.toml", Store.read_policy),
        ("minted/ccinit/shop/key", "mint.json", lambda store: store.read_order(URI)),
    ],
)
@pytest.mark.parametrize("content", [b"{[", SM2_PUBLIC_KEY], ids=["garbage", "a key of no use"])
def test_registration_that_does_not_parse_is_told_by_its_file(
    store: Store, file: str, reason: str, read: Callable[[Store], object], content: bytes
) -> None:
    read(store)
    path = store.root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(CcinitError) as caught:
        read(store)
    assert caught.value.reason == reason
    assert caught.value.detail.startswith(f"{path}: ")


def test_stray_file_among_registrations_is_refused(store: Store) -> None:
    store.add_reference(reference_set("a"))
    stray = store.root / "references/b.json~"
    stray.write_bytes(b"")
    assert reason_of(store.read_references) == "state.stray"
    stray.unlink()
    (store.root / "references/.b.json.swp").write_bytes(b"")
    assert len(store.read_references().sets) == 1


@pytest.mark.parametrize(
    "read",
    [
        Store.read_references,
        Store.read_issuers,
        lambda store: read_administrators(store.root),
        lambda store: store.read_resource(URI),
        lambda store: store.read_order(URI),
        lambda store: store.has_resource(URI),
        lambda store: Counters(store.root).read(counter_uri("shop", "data")),
    ],
)
def test_state_that_may_not_be_looked_at_is_an_error_of_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch, read: Callable[[Store], object]
) -> None:
    """A folder of another user's, who registered something: it is neither empty nor absent."""

    def refuse(path: Path, *_arguments: object, **_keywords: object) -> os.stat_result:
        raise PermissionError(13, os.strerror(13), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refuse)
        assert reason_of(read, store) == "state.read"


def test_policy_is_read_every_time_and_parsed_only_if_it_is_another(store: Store) -> None:
    rule = '[[rule]]\nresources = "a/b/{}"\nprofile = "prod"\ninitdata = ["shop"]\n'
    store.write_policy(("version = 1\n" + rule.format("c")).encode())
    first = store.read_policy()
    assert store.read_policy() is first
    store.policy_path.write_text("version = 1\n" + rule.format("d"))
    assert [str(one.resources) for one in store.read_policy().rules] == ["a/b/d"]
    store.policy_path.write_text("version = 1\noops")
    for _ in range(2):
        with pytest.raises(CcinitError):
            store.read_policy()
