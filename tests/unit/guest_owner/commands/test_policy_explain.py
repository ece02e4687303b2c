"""What `policy explain` foresees of all that a pod's document names, before its first boot."""

import base64
import hashlib
from pathlib import Path

import pytest

from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.signature.image_policy import MAX_POLICY_KEYS
from guest_owner.kbs.state.store import Store
from tests.fakes.documents.coco import document_of
from tests.fakes.documents.guest import CONFIG, POD
from tests.unit.ccinit.formats.signature.image_policy_cases import KEY, naming, policy, signed
from tests.unit.guest_owner.command_line import error_of, run
from tests.unit.guest_owner.kbs.values import reference_set

VOLUME = """\
[[volume]]
name = "data"
kind = "persistent"
size_bytes = 67108864
key = "kbs:///ccinit/shop/volume-key-data"
rollback = "kbs-counter"
"""
SECRET = '[[secret]]\ncontainer = "web"\nuri = "kbs+pki:///cert"\nfile = "/run/cert"\n'
DIGEST = "ab" * 32
SHOP = "kbs:///ccinit/shop/"
RANDOM, CREDENTIALS = hashlib.sha512().digest(), b'{"auths": {}}'
COUNTER = "kbs+rollback-counter:///shop/data"


@pytest.fixture
def shop(state: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A pod and an image that are registered, and a rule for both; no resource yet."""
    owner = "[owner]\nclient_ca = '''\n-----BEGIN CERTIFICATE-----\n'''\n"
    pod = POD.replace("{digest}", DIGEST) + VOLUME
    Store(state).add_reference(reference_set("image-1"))
    (state / "initdata").mkdir()
    document = document_of({"ccinit.toml": CONFIG + owner, "pod.toml": pod})
    (state / "initdata/shop.toml").write_bytes(document)
    assert run("policy", "allow", "--state", state, "ccinit/shop/*", "--initdata", "shop") == 0
    fill(state, RANDOM)
    capsys.readouterr()
    return state


def fill(state: Path, content: bytes) -> None:
    """Say what is registered from now on."""
    (state / "content").write_bytes(content)


def register(state: Path, name: str, kind: str, *options: str) -> None:
    words = ("register", "resource", "--state", state, f"{SHOP}{name}", state / "content")
    assert run(*words, "--kind", kind, *options) == 0


def foresee_words(state: Path) -> int:
    guest = ("--reference", "image-1", "--initdata", "shop")
    return run("policy", "explain", "--state", state, *guest)


def foresee(state: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, list[str]]]:
    """Return the exit status, and each resource's line behind its name."""
    capsys.readouterr()
    status = foresee_words(state)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:-1]]
    return status, {row[0]: row[1:] for row in rows}


def test_document_that_is_damaged_is_named(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shop / "initdata/shop.toml"
    path.write_bytes(b'version = "0.1.0"\nalgorithm = "sha256"\n')
    assert foresee_words(shop) == 1
    assert error_of(capsys) == f"guest-owner: {path}: missing [initdata.data]\n"


def test_counter_that_is_damaged_is_named(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No guest could read it, so it is not told as one that is there."""
    assert run("register", "rollback-counter", "--state", shop, "shop", "data") == 0
    (shop / "rollback-counters/shop/data.json").write_text("{")
    assert foresee_words(shop) == 1
    assert f"{shop}/rollback-counters/shop/data.json: " in error_of(capsys)


def test_each_resource_of_the_document_is_told_until_all_are_there(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, rows = foresee(shop, capsys)
    kinds = {
        "log-psk": "log-psk",
        "tls-identity": "tls-identity",
        "volume-key-data": "volume-key",
        "file-auth": "file",
        "file-password": "file",
    }
    wanted = {f"{SHOP}{name}": kind for name, kind in kinds.items()} | {COUNTER: "counter"}
    assert rows == {uri: [kind, "no", "rule", "1"] for uri, kind in wanted.items()}
    assert status == 1
    for name, kind in kinds.items():
        if kind != "tls-identity":
            fill(shop, CREDENTIALS if name == "file-auth" else RANDOM)
            register(shop, name, kind, "--envelope")
    assert run("register", "rollback-counter", "--state", shop, "shop", "data") == 0
    assert foresee(shop, capsys)[0] == 1
    assert run("register", "tls-identity", "--state", shop, f"{SHOP}tls-identity") == 0
    assert foresee(shop, capsys) == (
        0,
        {uri: [kind, "yes", "rule", "1"] for uri, kind in wanted.items()},
    )


def test_resource_of_another_form_than_the_guest_takes_is_told(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(shop, CREDENTIALS)
    register(shop, "file-auth", "file")
    fill(shop, RANDOM)
    register(shop, "file-password", "log-psk", "--envelope")
    status, rows = foresee(shop, capsys)
    assert status == 1
    assert rows[f"{SHOP}file-auth"][1:3] == ["no", "envelope:"]
    assert rows[f"{SHOP}file-password"][1] == "envelope.kind"


def test_envelope_that_nobody_opens_is_told(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    register(shop, "file-password", "file", "--envelope")
    row = f"{SHOP}file-password"
    assert foresee(shop, capsys)[1][row] == ["file", "yes", "rule", "1"]
    document = shop / "initdata/shop.toml"
    document.write_bytes(document.read_bytes().replace(b"required", b"none"))
    status, rows = foresee(shop, capsys)
    assert status == 1
    assert " ".join(rows[row]) == "file in an envelope, which nobody opens rule 1"


@pytest.mark.parametrize(
    ("name", "kind", "content", "said"),
    [
        ("log-psk", "log-psk", bytes(31), "expected at least 32 bytes, found 31"),
        ("volume-key-data", "volume-key", bytes(32), "expected 64 bytes, found 32"),
        ("tls-identity", "tls-identity", b"none", "text outside of PEM blocks"),
        ("file-auth", "file", b"{", "malformed JSON"),
        ("file-auth", "file", b"{}", "expected an object with auths"),
    ],
)
def test_content_that_the_guest_would_end_for_is_told(
    shop: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str, content: bytes, said: str
) -> None:
    """They may have been stored before the document was registered."""
    if said == "malformed JSON":
        document = shop / "initdata/shop.toml"
        document.write_bytes(document.read_bytes().replace(b"auth =", b"policy ="))
    put(shop, name, content, EnvelopeKind(kind))
    status, rows = foresee(shop, capsys)
    assert status == 1
    assert " ".join(rows[f"{SHOP}{name}"]) == f"{kind} unfit: {said} rule 1"


def test_content_that_does_not_fit_its_use_is_told(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "content").write_bytes(b"\xff")
    register(shop, "file-password", "file", "--envelope")
    assert foresee(shop, capsys)[1][f"{SHOP}file-password"][1] == "yes"
    document = shop / "initdata/shop.toml"
    text = document.read_bytes()
    document.write_bytes(text.replace(b'file = \\"/run/password\\"', b'env = \\"PASSWORD\\"'))
    assert document.read_bytes() != text
    status, rows = foresee(shop, capsys)
    assert status == 1
    assert rows[f"{SHOP}file-password"][1:3] == ["unfit:", "PASSWORD:"]


def test_keys_that_an_image_policy_names_are_told_with_the_policy(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The guest asks for them in the same session, and ends for one that it does not get."""
    initdata = shop / "initdata/shop.toml"
    initdata.write_bytes(initdata.read_bytes().replace(b"auth =", b"policy ="))
    key = {"type": "sigstoreSigned", "keyPaths": [f"{SHOP}file-signer", "kbs:///other/signer/key"]}
    content = policy({"type": "reject"}, transports={"docker": {"": [key]}})
    (shop / "content").write_bytes(content)
    assert f"{SHOP}file-signer" not in foresee(shop, capsys)[1]
    register(shop, "file-auth", "file", "--envelope")
    rows = foresee(shop, capsys)[1]
    assert rows[f"{SHOP}file-auth"] == ["file", "yes", "rule", "1"]
    assert rows[f"{SHOP}file-signer"] == ["file", "no", "rule", "1"]
    assert rows["kbs:///other/signer/key"][:3] == ["file", "no", "denied,"]
    put(shop, "file-signer", content)
    row = " ".join(foresee(shop, capsys)[1][f"{SHOP}file-signer"])
    assert row == "file unfit: not a PEM public key rule 1"
    (shop / "content").write_bytes(KEY)
    register(shop, "file-signer", "file", "--envelope")
    assert foresee(shop, capsys)[1][f"{SHOP}file-signer"] == ["file", "yes", "rule", "1"]


def test_key_in_a_policy_that_is_none_is_told(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, said in ((KEY, "yes"), (b"no key", "unfit: not a PEM public key")):
        put_document(shop, policy(signed(keyData=base64.b64encode(key).decode())))
        assert " ".join(foresee(shop, capsys)[1][f"{SHOP}file-auth"]) == f"file {said} rule 1"


@pytest.mark.parametrize("name", ["volume-key-data", "file-password"])
def test_policys_key_that_the_pod_uses_as_something_else_is_told(
    shop: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    put_policy(shop, f"{SHOP}{name}")
    row = " ".join(foresee(shop, capsys)[1][f"{SHOP}file-auth"])
    said = f"unfit: {SHOP}{name} is to verify signatures, but the pod uses it as volume-key"
    assert row == ("file yes rule 1" if name == "file-password" else f"file {said} rule 1")


@pytest.mark.parametrize("count", [MAX_POLICY_KEYS, MAX_POLICY_KEYS + 1])
def test_keys_beyond_the_guests_limit_are_told(
    shop: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    put_policy(shop, *(f"{SHOP}key-{number}" for number in range(count)))
    rows = foresee(shop, capsys)[1]
    row = " ".join(rows[f"{SHOP}file-auth"])
    if count == MAX_POLICY_KEYS:
        assert row == "file yes rule 1"
        assert sum(uri.startswith(f"{SHOP}key-") for uri in rows) == count
    else:
        said = f"unfit: expected at most {MAX_POLICY_KEYS} keys as resources, found {count}"
        assert row == f"file {said} rule 1"


def put_policy(shop: Path, *keys: str) -> None:
    """Have the pod's image policy name `keys`."""
    put_document(shop, naming(*keys))


def put_document(shop: Path, content: bytes) -> None:
    """Have the pod's credentials be its image's policy."""
    document = shop / "initdata/shop.toml"
    document.write_bytes(document.read_bytes().replace(b"auth =", b"policy ="))
    put(shop, "file-auth", content)


def put(shop: Path, name: str, content: bytes, kind: EnvelopeKind = EnvelopeKind.FILE) -> None:
    """Store a resource without a judgement."""
    uri = ResourceUri("ccinit", "shop", name)
    envelope = Envelope(uri=uri, kind=kind, data=content)
    Store(shop).write_resource(uri, encode_envelope(envelope))


def test_resources_that_are_too_much_together_are_told(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_policy(shop, *(f"{SHOP}key-{number}" for number in range(5)))
    for number in range(5):
        put(shop, f"key-{number}", bytes(700 << 10))
    assert foresee_words(shop) == 1
    together = "no guest would take all of them: "
    assert together not in capsys.readouterr().out
    put(shop, "file-password", bytes(700 << 10))
    assert foresee_words(shop) == 1
    size = 6 * (700 << 10) + len(naming(*(f"{SHOP}key-{number}" for number in range(5))))
    said = f"expected at most 4194304 bytes of resources together, found {size}"
    assert f"\n{together}{said}\n" in capsys.readouterr().out


def test_resource_that_no_rule_releases_is_told_with_the_reason(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("policy", "remove", "--state", shop, 1) == 0
    status, rows = foresee(shop, capsys)
    assert status == 1
    assert all(row[2] == "denied," for row in rows.values())


def test_what_another_services_plugin_makes_is_not_here(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shop / "initdata/shop.toml"
    secret = SECRET.encode("unicode_escape").replace(b'"', b'\\"')
    document = path.read_bytes().replace(b"[[volume]]", secret + b"[[volume]]", 1)
    path.write_bytes(document.replace(b'\\"required\\"', b'\\"none\\"', 1))
    status, rows = foresee(shop, capsys)
    assert status == 1
    said = " ".join(rows["kbs+pki:///cert"])
    assert said == "file no plugin pki here denied, no rule is about it"


@pytest.mark.parametrize("ignored", [("--initdata", "shop"), ("--device", "sampledevice")])
def test_session_is_described_by_nothing_else(
    shop: Path, capsys: pytest.CaptureFixture[str], ignored: tuple[str, str]
) -> None:
    explain = ("policy", "explain", "--state", shop, "--session", "a1b2")
    for words, status, told in (
        (ignored, 2, "--initdata and --device go with --reference [explain.session]"),
        ((), 1, "no attestation of 'a1b2' is in the audit log [explain.session]"),
    ):
        assert run(*explain, *words) == status
        assert error_of(capsys) == f"guest-owner: {told}\n"
