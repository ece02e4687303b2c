"""What an owner registers with a KBS, and what the commands refuse to take."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from ccinit.errors import ConfigError
from ccinit.formats.initdata.document import encode_device_image
from ccinit.formats.kbs.envelope import EnvelopeKind, verify_envelope
from ccinit.formats.kbs.resource_uri import PluginUri, ResourceUri
from ccinit.formats.kbs.rollback_counter import counter_uri
from ccinit.formats.signature.image_policy import MAX_POLICY_KEYS
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.references.values import Profile, encode_reference_set
from guest_owner.kbs.state.counters import Counter, Counters
from guest_owner.kbs.state.store import Store
from tests.fakes.documents.guest import CONFIG, POD
from tests.fakes.platforms.snp import Chain
from tests.fakes.platforms.tdx_quote import FakePck
from tests.fakes.platforms.tpm_quote import FakeTpm, rsa_key
from tests.fakes.platforms.ultravisor import host_key_document
from tests.unit.ccinit.formats.signature.image_policy_cases import naming, policy
from tests.unit.guest_owner.command_line import error_of, run, write
from tests.unit.guest_owner.kbs.snp_values import REQUIREMENTS
from tests.unit.guest_owner.kbs.values import reference_set


def test_register_reference_warns_of_test_images(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for profile in Profile:
        data = encode_reference_set(reference_set(profile.value, profile))
        assert run("register", "reference", "--state", state, write(tmp_path / "r", data)) == 0
        assert ("note:" in capsys.readouterr().out) is (profile is Profile.TEST)
    assert [known.name for known in Store(state).read_references().sets] == ["prod", "test"]


def test_report_of_a_build_is_no_reference_and_no_newer_one(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What lies beside the image is taken for it."""
    register = ("register", "reference", "--state", state)
    assert run(*register, write(tmp_path / "image.json", b'{"profile": "prod"}')) == 1
    told = error_of(capsys)
    assert "give what `measured-boot predict --output` wrote [reference.version]" in told
    assert "newer" not in told
    assert run(*register, write(tmp_path / "next.json", b'{"version": 2}')) == 1
    assert "is it of a newer guest-owner? [reference.version]" in error_of(capsys)


def test_disk_image_of_a_document_is_not_the_document(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = make_document(CONFIG, POD)
    image = write(tmp_path / "initdata.img", encode_device_image(document))
    register = ("register", "initdata", "--state", state)
    assert run(*register, image) == 1
    assert error_of(capsys) == (
        f"guest-owner: {image}: a disk image: register the document, --output of `initdata make`"
        " [initdata.image]\n"
    )
    assert run(*register, write(tmp_path / "initdata.toml", document)) == 0


def test_register_ak_takes_pem_and_der(state: Path, tmp_path: Path) -> None:
    der = FakeTpm(key=rsa_key(0)).public_der
    pem = load_der_public_key(der).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert run("register", "ak", "--state", state, write(tmp_path / "k", der)) == 0
    assert run("register", "ak", "--state", state, write(tmp_path / "k", pem), "--name", "x") == 0
    keys = Store(state).read_references().attestation_keys
    assert [key.public_der for key in keys] == [der, der]
    assert keys[0].name.startswith("ak-")


OTHER_POD = POD.replace("[[image]]", "[allow]\nmetrics_to_host = true\n\n[[image]]", 1)


@pytest.mark.parametrize(
    ("what", "first", "other"),
    [
        (
            "reference",
            encode_reference_set(reference_set("a")),
            encode_reference_set(reference_set("b")),
        ),
        ("ak", FakeTpm(key=rsa_key(0)).public_der, FakeTpm(key=rsa_key(1)).public_der),
        ("initdata", make_document(CONFIG, POD), make_document(CONFIG, OTHER_POD)),
    ],
)
def test_register_says_that_another_of_that_name_counts_no_more(
    state: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    what: str,
    first: bytes,
    other: bytes,
) -> None:
    """Who forgets --name at an update would not learn why guests that run are turned away."""
    register = ("register", what, "--state", state, "--name", "now")

    def told(data: bytes) -> bool:
        assert run(*register, write(tmp_path / "file", data)) == 0
        return "now stood for another one" in capsys.readouterr().out

    said = [told(data) for data in (first, first, other, other, first)]
    assert said == [False, False, True, False, True]
    beside = (*register[:-1], "beside", tmp_path / "file")
    assert run(*beside) == 0
    assert "stood for" not in capsys.readouterr().out


def test_register_root_names_the_platform(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pem = write(tmp_path / "ca", Chain().pem)
    assert run("register", "root", "--state", state, "--platform", "snp", pem) == 0
    assert "registered 2 certificates for snp as root-" in capsys.readouterr().out
    (root,) = Store(state).read_references().roots
    assert root.name.startswith("root-")
    empty = write(tmp_path / "ca", b"")
    assert run("register", "root", "--state", state, "--platform", "snp", empty) == 1
    assert "[root.form]" in error_of(capsys)


INTEL = FakePck()


@pytest.mark.parametrize(
    ("platform", "good", "bad", "said"),
    [
        ("snp", Chain().ark, INTEL.root_certificate, "not AMD's ARK or ASK"),
        ("svsm", Chain().leaf, Chain(leaf_name="SEV-VLEK").leaf, "nor a chip's VCEK [root.kind]"),
        ("az-snp-vtpm", Chain().ask, host_key_document(0), "not AMD's ARK or ASK"),
        ("tdx", INTEL.root_certificate, Chain().leaf, "not an authority's certificate"),
        ("az-tdx-vtpm", INTEL.root_certificate, Chain().ark, "not an authority's"),
        ("se", host_key_document(0), Chain().ark, "[se.host_key]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_register_root_takes_only_what_evidence_of_the_platform_chains_to(
    state: Path,
    tmp_path: Path,
    platform: str,
    good: x509.Certificate,
    bad: x509.Certificate,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    register = ("register", "root", "--state", state, "--platform", platform)
    pem = [one.public_bytes(Encoding.PEM) for one in (good, bad)]
    assert run(*register, write(tmp_path / "vendor.pem", b"".join(pem))) == 1
    told = error_of(capsys)
    assert f"{tmp_path / 'vendor.pem'}: certificate 2: " in told
    assert said in told
    assert not (state / "roots").exists()
    assert run(*register, write(tmp_path / "vendor.pem", pem[0])) == 0


def test_register_requirements_replaces_those_of_the_platform(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "snp.toml", REQUIREMENTS)
    assert run("register", "requirements", "--state", state, "--platform", "snp", file) == 0
    assert "registered requirements for snp" in capsys.readouterr().out
    assert len(Store(state).read_references().requirements) == 1
    file = write(tmp_path / "snp.toml", b"version = 1")
    assert run("register", "requirements", "--state", state, "--platform", "snp", file) == 1
    assert "[requirements.product]" in error_of(capsys)


def test_register_ak_refuses_other_files(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for data in (b"", b"-----BEGIN nothing", (state / "ca.pem").read_bytes()):
        assert run("register", "ak", "--state", state, write(tmp_path / "k", data)) == 1
        assert "[ak.form]" in error_of(capsys)


def test_register_volume_key_in_its_envelope(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    uri = ResourceUri("ccinit", "shop", "volume-key-data")
    assert run("volume-key", "new", key) == 0
    assert len(key.read_bytes()) == 64
    assert key.stat().st_mode & 0o777 == 0o600
    flags = ("--kind", "volume-key", "--envelope", "--create")
    assert run("register", "resource", "--state", state, uri, key, *flags) == 0
    body = Store(state).read_resource(uri)
    envelope = verify_envelope(body, uri, EnvelopeKind.VOLUME_KEY)
    assert (envelope.data, envelope.create) == (key.read_bytes(), True)
    assert "note: once the volume is made, register its key again without --create" in (
        capsys.readouterr().out
    )
    assert run("register", "resource", "--state", state, uri, key, *flags[:-1]) == 0
    assert "note:" not in capsys.readouterr().out
    body = Store(state).read_resource(uri)
    assert not verify_envelope(body, uri, EnvelopeKind.VOLUME_KEY).create


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"x" * 63, "volume_key.length"),
        (b"x" * 64, "volume_key.form"),
        (bytes(64), "volume_key.form"),
        (bytes(range(32)).hex().encode(), "volume_key.form"),
        (b"\xff\x80" * 32, "volume_key.form"),
    ],
)
def test_register_weak_volume_key_is_refused(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, reason: str
) -> None:
    uri = "kbs:///ccinit/shop/volume-key-data"
    path = write(tmp_path / "key", data)
    assert run("register", "resource", "--state", state, uri, path, "--kind", "volume-key") == 1
    assert f"[{reason}]" in error_of(capsys)
    assert not (state / "resources").exists()


def test_register_short_log_psk_is_refused(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, kind = "kbs:///ccinit/shop/log-psk", ("--kind", "log-psk")
    path = write(tmp_path / "psk", b"p" * 31)
    assert run("register", "resource", "--state", state, uri, path, *kind) == 1
    assert "[resource.log_psk]" in error_of(capsys)
    path.write_bytes(b"p" * 32)
    assert run("register", "resource", "--state", state, uri, path, *kind) == 0


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--envelope"], "resource.kind"),
        (["--create"], "resource.create"),
        (["--create", "--envelope", "--kind", "file"], "resource.create"),
    ],
)
def test_register_resource_flags_that_need_others_are_refused(
    state: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    reason: str,
) -> None:
    path = write(tmp_path / "file", b"data")
    assert run("register", "resource", "--state", state, "kbs:///a/b/c", path, *flags) == 2
    assert f"[{reason}]" in error_of(capsys)


@pytest.mark.parametrize(
    ("content", "options", "sent"),
    [(b"", (), 0), (bytes(800_000), ("--kind", "file", "--envelope"), 1_066_733)],
    ids=["nothing", "too much in its envelope"],
)
def test_file_that_makes_no_resource_is_named(
    state: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    options: tuple[str, ...],
    sent: int,
) -> None:
    register = ("register", "resource", "--state", state, "kbs:///ccinit/shop/file-a", *options)
    given = write(tmp_path / "given", content)
    assert run(*register, given) == 1
    told = f"{given}: expected 1 to 1048576 bytes to be sent, found {sent}"
    assert error_of(capsys) == f"guest-owner: {told} [resource.size]\n"
    assert run(*register, write(given, b"content")) == 0


def test_register_image_policy_reads_it_as_the_guest_will(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = ResourceUri("ccinit", "shop", "file-policy")
    key = "kbs:///default/keys/cosign"
    good = policy({"type": "sigstoreSigned", "keyPath": key}, transports={"docker": {}})
    path = write(tmp_path / "policy.json", good)
    assert run("register", "image-policy", "--state", state, uri, path, "--envelope") == 0
    assert key in capsys.readouterr().out
    assert verify_envelope(Store(state).read_resource(uri), uri, EnvelopeKind.FILE).data == good
    assert run("register", "image-policy", "--state", state, uri, path) == 0
    assert Store(state).read_resource(uri) == good
    wrong = write(tmp_path / "wrong.json", policy())
    assert run("register", "image-policy", "--state", state, uri, wrong) == 1
    assert "[policy.default]" in error_of(capsys)
    write(wrong, naming(*(f"{key}-{number}" for number in range(MAX_POLICY_KEYS + 1))))
    assert run("register", "image-policy", "--state", state, uri, wrong) == 1
    assert "[policy.keys]" in error_of(capsys)
    write(wrong, policy({"type": "sigstoreSigned", "keyData": "bm8ga2V5"}))
    assert run("register", "image-policy", "--state", state, uri, wrong) == 1
    assert f"{wrong}: not a PEM public key [policy.key]" in error_of(capsys)
    assert Store(state).read_resource(uri) == good


def test_counter_begins_once_and_only_where_there_is_a_state(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register = ("register", "rollback-counter", "shop", "data", "--state")
    assert run(*register, state, "--value", "8") == 0
    assert run(*register, state) == 1
    assert "is at 8" in error_of(capsys)
    assert Counters(state).read(counter_uri("shop", "data")).value == 8
    capsys.readouterr()
    for value, told in (("9", False), ("3", True), ("3", False)):
        assert run(*register, state, "--value", value) == 0
        assert ("note: it was at 9: disks from 3 on" in capsys.readouterr().out) is told
    assert run(*register, tmp_path / "absent") == 1
    assert "[state.missing]" in error_of(capsys)
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(("more", "value"), [((), 0), (("--value", "8"), 8)])
def test_counter_that_was_written_is_not_read_to_say_so(
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    value: int,
) -> None:
    def read(_counters: Counters, _uri: PluginUri) -> Counter:
        raise ConfigError("state.read", "the disk fails")

    with monkeypatch.context() as patch:
        patch.setattr(Counters, "read", read)
        assert run("register", "rollback-counter", "shop", "data", "--state", state, *more) == 0
    uri = counter_uri("shop", "data")
    assert f"registered {uri}, at {value}\n" in capsys.readouterr().out
    assert Counters(state).read(uri).value == value


def test_resource_is_stored_or_minted_and_the_refusal_says_what_to_remove(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("client-ca", "init", "--state", state) == 0
    for stored, minted in (("a", "b"), ("b", "a")):
        path = tmp_path / stored
        assert run("owner-identity", "new", stored, "--state", state, "--output", path) == 0
        store = ("resource", f"kbs:///ccinit/{stored}/tls-identity", path)
        mint = ("tls-identity", f"kbs:///ccinit/{minted}/tls-identity")
        statuses = [run("register", *words, "--state", state) for words in (store, mint)]
    assert statuses == [1, 1]
    told = error_of(capsys)
    assert "`guest-owner unregister minted/ccinit/b/tls-identity` first" in told
    assert "`guest-owner unregister resources/ccinit/a/tls-identity` first" in told


def test_resource_that_is_in_no_envelope_any_more_is_told(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever replaces a secret and leaves --envelope away ends each guest that boots."""
    uri = ResourceUri("ccinit", "shop", "file-token")
    secret = write(tmp_path / "secret", b"secret")
    in_envelope = ("--kind", "file", "--envelope")
    register = ("register", "resource", "--state", state, uri)

    def told(path: Path, *options: str) -> bool:
        assert run(*register, path, *options) == 0
        return "was in an envelope" in capsys.readouterr().out

    said = [told(secret, *options) for options in ((), in_envelope, in_envelope, (), ())]
    assert said == [False, False, False, True, False]
    assert not told(secret, *in_envelope)
    made_elsewhere = write(tmp_path / "envelope", Store(state).read_resource(uri))
    assert not told(made_elsewhere)
    policy_file = write(tmp_path / "policy.json", policy({"type": "reject"}))
    assert run("register", "image-policy", "--state", state, uri, policy_file) == 0
    assert "was in an envelope" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["ccinit/shop/log-psk", "ccinit/tls-identity/shop", "a/b/c"])
def test_identity_is_minted_only_under_the_name_that_a_guest_asks_for(
    state: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under another name it would be made for nobody, or stand in the way of what belongs there."""
    register = ("register", "tls-identity", "--state", state)
    with pytest.raises(SystemExit) as ended:
        run(*register, f"kbs:///{path}")
    assert ended.value.code == 2
    assert error_of(capsys).endswith(
        f"kbs:///{path}: a guest asks for kbs:///ccinit/POD/tls-identity, POD as in "
        "pod.toml [resource.identity]\n"
    )
    assert not (state / "minted").exists()
    assert not (state / "owner-ca.pem").exists()
    assert run(*register, "kbs:///ccinit/shop/tls-identity") == 0
