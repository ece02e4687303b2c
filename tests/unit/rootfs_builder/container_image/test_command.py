"""The commands: what they make, where they put it, and what they refuse to do."""

import argparse
import errno
import gzip
import json
import os
import stat
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ccinit.errors import CcinitError, ConfigError, PeerError
from ccinit.formats.kbs.envelope import EnvelopeKind, verify_envelope
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.image import Manifest, parse_image_config, parse_image_document
from rootfs_builder.container_image import command
from rootfs_builder.container_image.command import add_parser
from rootfs_builder.container_image.kbs_admin import KbsAdmin
from rootfs_builder.container_image.layer_encryption import KbsRecipient
from rootfs_builder.container_image.oci_layout import open_layout, read_blob
from rootfs_builder.tools_tree import ToolsTree
from tests.fakes.unsupported_keys import PRIVATE_PEM, PUBLIC_PEM

URI = "kbs:///ccinit/demo/image-key-web"
CALLS: list[tuple[str, ...]] = []


class Tools(ToolsTree):
    """Plays gzip, and a registry that takes everything."""

    def run(self, arguments: Sequence[str | os.PathLike[str]], **keywords: object) -> bytes:
        words = tuple(os.fspath(argument) for argument in arguments)
        CALLS.append(words)
        if words[0] == "gzip":
            data = keywords["input_data"]
            assert isinstance(data, bytes)
            return gzip.compress(data, mtime=0)
        return b"the raw manifest" if "inspect" in words else b""


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.setattr(command, "ToolsTree", Tools)


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["container-image", *map(str, words)])
    status: int = arguments.func(arguments)
    return status


def refusal(*words: object) -> str:
    with pytest.raises(CcinitError) as refused:
        run(*words)
    return refused.value.reason


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "srv").mkdir(parents=True)
    (root / "srv/app").write_text("app")
    words = ("--directory", root, "--compression", "gzip", "--entrypoint", "/srv/app")
    run("build", tmp_path / "plain", *words, "--env", "A=1", "--user", "7:7", "--cwd", "/srv")
    return tmp_path / "plain"


def manifest(layout: Path) -> Manifest:
    document = parse_image_document(read_blob(layout, open_layout(layout).digest))
    assert isinstance(document, Manifest)
    return document


def test_directory_becomes_an_image_that_the_guest_reads(layout: Path) -> None:
    config = parse_image_config(read_blob(layout, manifest(layout).config.digest))
    assert (config.entrypoint, config.env) == (("/srv/app",), ("A=1",))
    assert (config.user, config.working_dir) == ("7:7", "/srv")


def test_directory_gives_the_same_image_again(layout: Path, tmp_path: Path) -> None:
    words = ("--directory", tmp_path / "root", "--compression", "gzip", "--entrypoint", "/srv/app")
    settings = ("--env", "A=1", "--user", "7:7", "--cwd", "/srv")
    assert run("build", tmp_path / "again", *words, *settings) == 0
    assert open_layout(tmp_path / "again").digest == open_layout(layout).digest
    (tmp_path / "root/srv/app").write_text("other")
    run("build", tmp_path / "other", *words, *settings)
    assert open_layout(tmp_path / "other").digest != open_layout(layout).digest


def test_build_refuses_what_it_would_overwrite_or_cannot_pack(layout: Path, tmp_path: Path) -> None:
    assert refusal("build", layout, "--directory", tmp_path / "root") == "image.exists"
    assert refusal("build", tmp_path / "x", "--directory", layout / "no") == "build.directory"
    os.mkfifo(tmp_path / "root/fifo")
    assert refusal("build", tmp_path / "x", "--directory", tmp_path / "root") == "build.file"


def test_encrypted_image_has_its_key_in_the_output(layout: Path, tmp_path: Path) -> None:
    target, output = tmp_path / "encrypted", tmp_path / "output"
    run("encrypt", f"oci:{layout}", f"oci:{target}", "--recipient", URI, "--output", output)
    (layer,) = manifest(target).layers
    assert layer.encryption is not None
    assert [str(wrap.kek) for wrap in layer.encryption.wraps] == [URI]
    key = output / "keys/ccinit/demo/image-key-web"
    assert len(key.read_bytes()) == 32
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert manifest(target).config.digest == manifest(layout).config.digest
    kept = key.read_bytes()
    again = ("--recipient", URI, "--output", output)
    run("encrypt", f"oci:{layout}", f"oci:{tmp_path / 'again'}", *again)
    assert key.read_bytes() == kept
    assert open_layout(target).digest != open_layout(tmp_path / "again").digest  # fresh layer keys


def test_encrypt_refuses_wrong_recipients_and_images(layout: Path, tmp_path: Path) -> None:
    pem = tmp_path / "public.pem"
    pem.write_bytes(b"no key")
    words = ("encrypt", f"oci:{layout}", f"oci:{tmp_path / 'x'}", "--output", tmp_path / "o")
    assert refusal(*words, "--recipient", f"jwe:{pem}") == "encrypt.recipient"
    assert refusal(*words, "--recipient", "https://x/a/b/c") == "encrypt.recipient"
    assert refusal(*words, "--recipient", URI, "--kbs", "https://kbs.example") == "kbs.options"
    run(*words, "--recipient", URI)
    other = ("--recipient", URI, "--output", tmp_path / "o")
    assert refusal("encrypt", f"oci:{tmp_path / 'x'}", "oci:y", *other) == "encrypt.layer"
    assert refusal("encrypt", "docker-archive:x", "oci:y", *other) == "image.location"
    (tmp_path / "o/keys/ccinit/demo/image-key-web").write_bytes(b"short")
    assert refusal("encrypt", f"oci:{layout}", "oci:y", *other) == "encrypt.key"


def test_encrypt_looks_at_its_target_before_it_makes_or_tells_a_key(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kbs = Kbs(monkeypatch)
    monkeypatch.setattr("rootfs_builder.container_image.command.open_admin", lambda *_: None)

    def register(_admin: object, keys: tuple[KbsRecipient, ...], **_envelope: bool) -> None:
        for key in keys:
            kbs.take(key.uri, key.key)

    monkeypatch.setattr("rootfs_builder.container_image.command.register_keys", register)
    admin = ("--kbs", "https://kbs.example", "--kbs-ca", "x", "--kbs-admin-key", "x")
    words = ("--recipient", URI, "--output", tmp_path / "o", *admin)
    assert refusal("encrypt", f"oci:{layout}", f"oci:{layout}", *words) == "image.exists"
    assert refusal("encrypt", f"oci:{layout}", "x", *words) == "image.location"
    assert (kbs.taken, (tmp_path / "o").exists()) == ({}, False)
    run("encrypt", f"oci:{layout}", f"oci:{tmp_path / 'x'}", *words)
    assert len(kbs.taken) == 1


class Kbs:
    """Takes what it is given, or refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refuses: bool = False) -> None:
        self.taken: dict[ResourceUri, bytes] = {}
        self.refuses = refuses
        monkeypatch.setattr(KbsAdmin, "register", lambda _admin, uri, body: self.take(uri, body))

    def take(self, uri: ResourceUri, body: bytes) -> None:
        if self.refuses:
            raise PeerError("kbs.status", "401")
        self.taken[uri] = body


def encrypt_into_kbs(layout: Path, tmp_path: Path, *more: str) -> int:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "admin.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "kbs.pem").write_bytes(b"")
    return run(
        *("encrypt", f"oci:{layout}", "docker://localhost:5000/demo/web:1"),
        *("--recipient", URI, "--output", tmp_path / "output", "--name", "web"),
        *("--kbs", "https://kbs.example:8443", "--kbs-ca", tmp_path / "kbs.pem"),
        *("--kbs-admin-key", tmp_path / "admin.pem", *more),
    )


def test_keys_go_into_the_kbs_and_the_pod_gets_its_table(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl.create_default_context", lambda **_roots: None)
    kbs = Kbs(monkeypatch)
    private = "kbs:///ccinit/demo/image-key-private"
    assert encrypt_into_kbs(layout, tmp_path, "--private-key", private) == 0
    ((uri, body),) = kbs.taken.items()
    envelope = verify_envelope(body, uri, EnvelopeKind.IMAGE_KEY)
    key = tmp_path / "output/keys/ccinit/demo/image-key-web"
    assert (str(uri), envelope.data) == (URI, key.read_bytes())
    (table,) = tomllib.loads((tmp_path / "output/image.toml").read_text())["image"]
    assert table["reference"].startswith("localhost:5000/demo/web@sha256:")
    assert (table["name"], table["encryption"], table["keys"]) == ("web", "required", [private])
    encrypt_into_kbs(layout, tmp_path, "--no-envelope")
    assert kbs.taken[uri] == key.read_bytes()


def test_image_whose_key_the_kbs_refuses_is_not_pushed(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl.create_default_context", lambda **_roots: None)
    kbs = Kbs(monkeypatch, refuses=True)
    CALLS.clear()
    with pytest.raises(PeerError) as refused:
        encrypt_into_kbs(layout, tmp_path)
    assert refused.value.reason == "kbs.status"
    assert CALLS == []
    kbs.refuses = False
    encrypt_into_kbs(layout, tmp_path)
    assert [call[0] for call in CALLS] == ["skopeo"]


@pytest.fixture
def signing_key(tmp_path: Path) -> Path:
    path = tmp_path / "signing.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def test_signature_of_a_layout_names_image_and_identity(
    layout: Path, tmp_path: Path, signing_key: Path
) -> None:
    words = ("sign", f"oci:{layout}", "--key", signing_key, "--output", tmp_path / "output")
    assert refusal(*words) == "sign.identity"
    identity = ("--identity", "r.example/web", "--signature", f"oci:{tmp_path / 'signature'}")
    run(*words, *identity)
    document = json.loads(
        read_blob(tmp_path / "signature", open_layout(tmp_path / "signature").digest)
    )
    payload = json.loads(read_blob(tmp_path / "signature", document["layers"][0]["digest"]))
    critical = payload["critical"]
    assert critical["image"] == {"docker-manifest-digest": open_layout(layout).digest}
    assert critical["identity"] == {"docker-reference": "r.example/web"}
    policy = json.loads((tmp_path / "output/policy.json").read_text())
    assert policy["default"] == [{"type": "reject"}]
    assert list(policy["transports"]["docker"]) == ["r.example/web"]


def test_signature_of_a_registrys_image_goes_beside_it(tmp_path: Path, signing_key: Path) -> None:
    words = ("--key", signing_key, "--output", tmp_path / "output")
    run("sign", "docker://r.example:5000/a/web:1", *words)
    inspect, copy = CALLS
    assert inspect[:3] == ("skopeo", "inspect", "--raw")
    assert copy[-1].startswith("docker://r.example:5000/a/web:sha256-")
    assert copy[-1].endswith(".sig")


def test_sign_refuses_another_kind_of_key(layout: Path, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    words = ("sign", f"oci:{layout}", "--key", path, "--output", tmp_path, "--identity", "r/w")
    path.write_bytes(b"no key")
    assert refusal(*words) == "sign.key"
    other = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert refusal(*words) == "sign.key"
    public = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.write_bytes(public)
    assert refusal(*words) == "sign.key"


def test_push_copies_between_both_places(layout: Path, tmp_path: Path) -> None:
    run("push", f"oci:{layout}", f"oci:{tmp_path / 'copy'}")
    assert open_layout(tmp_path / "copy").digest == open_layout(layout).digest
    assert refusal("push", f"oci:{layout}", f"oci:{tmp_path / 'copy'}") == "image.exists"
    assert refusal("push", f"oci:{layout}", "somewhere") == "image.location"
    assert refusal("push", f"oci:{tmp_path / 'no'}", "docker://r.example/a") == "layout.missing"
    (layout / "index.json").write_text('{"manifests": []}')
    with pytest.raises(ConfigError) as refused:
        run("push", f"oci:{layout}", "docker://r.example/a")
    assert refused.value.reason == "layout.image"


def damage(layout: Path) -> None:
    next((layout / "blobs/sha256").iterdir()).write_bytes(b"cut")


def lose_the_layer(layout: Path) -> None:
    (layer,) = manifest(layout).layers
    (layout / "blobs/sha256" / layer.blob.digest.hex).unlink()


@pytest.mark.parametrize("act", [damage, lose_the_layer])
def test_push_of_a_damaged_layout_is_refused_and_leaves_nothing(
    layout: Path, tmp_path: Path, act: Callable[[Path], None]
) -> None:
    (tmp_path / "to").mkdir()
    assert run("push", f"oci:{layout}", f"oci:{tmp_path / 'to/copy'}") == 0
    act(layout)
    assert refusal("push", f"oci:{layout}", f"oci:{tmp_path / 'to/again'}") == "layout.blob"
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["copy"]


def test_build_that_finds_no_room_leaves_nothing(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(tmp_path.iterdir())
    words = ("--directory", layout, "--compression", "none")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write)
        with pytest.raises(OSError, match="No space"):
            run("build", tmp_path / "x", *words)
    assert sorted(tmp_path.iterdir()) == before
    assert run("build", tmp_path / "x", *words) == 0


@pytest.mark.parametrize("identity", ["", "web", "r.example/", "r.example/two words"])
def test_signature_for_a_name_that_no_policy_can_ask_for_is_refused(
    layout: Path, tmp_path: Path, signing_key: Path, identity: str
) -> None:
    words = ("--key", signing_key, "--output", tmp_path / "output")
    where = ("--signature", f"oci:{tmp_path / 'signature'}")
    assert refusal("sign", f"oci:{layout}", *words, *where, "--identity", identity) == (
        "sign.identity"
    )
    assert not (tmp_path / "output").exists()


def test_keys_on_a_curve_that_nothing_here_has_are_refused_as_others(
    layout: Path, tmp_path: Path
) -> None:
    public, private = tmp_path / "public.pem", tmp_path / "private.pem"
    public.write_bytes(PUBLIC_PEM)
    private.write_bytes(PRIVATE_PEM)
    output = ("--output", tmp_path / "out")
    words = ("encrypt", f"oci:{layout}", f"oci:{tmp_path / 'x'}", *output, "--recipient")
    assert refusal(*words, f"jwe:{public}") == "encrypt.recipient"
    assert refusal("sign", f"oci:{layout}", "--key", private, *output) == "sign.key"
    kbs = ("--kbs", "https://kbs.example", "--kbs-ca", public, "--kbs-admin-key", private)
    assert refusal(*words, URI, *kbs) == "kbs.admin_key"


def test_authority_of_a_kbs_that_is_no_certificate_is_named(layout: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        encrypt_into_kbs(layout, tmp_path)
    assert refused.value.reason == "kbs.ca"
    assert str(tmp_path / "kbs.pem") in refused.value.detail


def test_registrys_authority_is_given_to_skopeo_alone_in_a_folder(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its name is: skopeo reads only `*.crt`, and keys that lie beside it, too."""
    (tmp_path / "registry.pem").write_text("a certificate")
    seen: list[dict[str, str]] = []

    def run_skopeo(_tools: Tools, arguments: Sequence[str], **_keywords: object) -> bytes:
        option = next(word for word in arguments if "cert-dir=" in word)
        folder = Path(option.partition("=")[2])
        seen.append({path.name: path.read_text() for path in folder.iterdir()})
        return b"the raw manifest"

    monkeypatch.setattr(Tools, "run", run_skopeo)
    words = ("--ca", tmp_path / "registry.pem")
    run("push", f"oci:{layout}", "docker://r.example/a", *words)
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    sign = ("--key", tmp_path / "key.pem", "--output", tmp_path / "out")
    run("sign", "docker://r.example/a:1", *sign, *words)
    assert seen == [{"ca.crt": "a certificate"}] * 3


def test_auth_file_is_given_to_skopeo_for_the_registrys_side(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "auth.json").write_text('{"auths": {}}')
    seen: list[tuple[str, str]] = []

    def run_skopeo(_tools: Tools, arguments: Sequence[str], **keywords: object) -> bytes:
        option, _, name = next(w for w in arguments if "authfile=" in w).partition("=")
        assert isinstance(folders := keywords["directories"], tuple)
        assert Path(name).parent in folders
        seen.append((option, Path(name).read_text()))
        return b""

    monkeypatch.setattr(Tools, "run", run_skopeo)
    words = ("--auth-file", tmp_path / "auth.json")
    run("push", f"oci:{layout}", "docker://r.example/a", *words)
    assert seen == [("--dest-authfile", '{"auths": {}}')]
    both = ("--credential", "me:secret", *words)
    assert refusal("push", f"oci:{layout}", "docker://r.example/a", *both) == "image.credential"


def test_tools_tree_is_the_one_that_the_environment_names(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(command, "ToolsTree", opened.append)
    monkeypatch.setenv("CCINIT_TOOLS", "/elsewhere/tools")
    run("push", f"oci:{layout}", f"oci:{tmp_path / 'copy'}")
    monkeypatch.delenv("CCINIT_TOOLS")
    run("push", f"oci:{layout}", f"oci:{tmp_path / 'other'}")
    assert opened == [Path("/elsewhere/tools"), Path("build/tools")]


@pytest.mark.parametrize("word", ["PATH", "=value", ""])
def test_environment_without_a_name_or_a_value_is_refused(tmp_path: Path, word: str) -> None:
    words = ("--directory", tmp_path, "--compression", "none")
    assert refusal("build", tmp_path / "x", *words, f"--env={word}") == "build.env"
    assert run("build", tmp_path / "y", *words, "--env=NAME=") == 0
