"""The commands: what they make, where they put it, and what they refuse to do."""

import errno
import gzip
import io
import os
import stat
import tarfile
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ccinit.errors import ConfigError, PeerError
from ccinit.formats.kbs.envelope import EnvelopeKind, verify_envelope
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.image import parse_image_config
from rootfs_builder.container_image import command
from rootfs_builder.container_image.kbs_admin import KbsAdmin
from rootfs_builder.container_image.layer_encryption import KbsRecipient
from rootfs_builder.container_image.oci_layout import open_layout, read_blob
from rootfs_builder.tools_tree import ToolsTree
from tests.fakes.kbs.unsupported_keys import PRIVATE_PEM, PUBLIC_PEM
from tests.unit.rootfs_builder.container_image.command_line import CALLS, manifest, refusal, run

URI = "kbs:///ccinit/demo/image-key-web"


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


def test_root_can_be_entered_whoever_may_enter_the_directory(layout: Path, tmp_path: Path) -> None:
    """`mktemp -d` makes one for nobody else, and an image of it would start nothing but root's."""
    (tmp_path / "root").chmod(0o700)
    words = ("--directory", tmp_path / "root", "--compression", "gzip", "--entrypoint", "/srv/app")
    run("build", tmp_path / "again", *words, "--env", "A=1", "--user", "7:7", "--cwd", "/srv")
    assert open_layout(tmp_path / "again").digest == open_layout(layout).digest


def test_build_refuses_what_it_would_overwrite_or_cannot_pack(layout: Path, tmp_path: Path) -> None:
    assert refusal("build", layout, "--directory", tmp_path / "root") == "image.exists"
    assert refusal("build", tmp_path / "x", "--directory", layout / "no") == "build.directory"
    os.mkfifo(tmp_path / "root/fifo")
    assert refusal("build", tmp_path / "x", "--directory", tmp_path / "root") == "build.file"


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for apt and dpkg-deb: a root with /bin as Debian has it."""

    def extract(_tools: ToolsTree, _files: object, root: Path) -> None:
        (root / "usr/bin").mkdir(parents=True)
        (root / "usr/bin/python3").write_text("python3")
        (root / "bin").symlink_to("usr/bin")

    build = "rootfs_builder.container_image.build."
    monkeypatch.setattr(build + "fetch_packages", lambda *_: ())
    monkeypatch.setattr(build + "extract_packages", extract)
    monkeypatch.setattr(build + "settle_users", lambda _: None)
    monkeypatch.setattr(build + "settle_certificates", lambda _: None)


def layer_names(layout: Path) -> list[list[str]]:
    blobs = [read_blob(layout, layer.blob.digest) for layer in manifest(layout).layers]
    return [tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob))).getnames() for blob in blobs]


@pytest.mark.usefixtures("packages")
def test_directory_is_a_layer_above_the_packages(tmp_path: Path) -> None:
    (tmp_path / "root/srv").mkdir(parents=True)
    (tmp_path / "root/srv/app").write_text("app")
    words = ("--package", "python3", "--compression", "gzip", "--packages", tmp_path / "cache")
    assert run("build", tmp_path / "both", *words, "--directory", tmp_path / "root") == 0
    below, above = layer_names(tmp_path / "both")
    assert "usr/bin/python3" in below
    assert above == [".", "srv", "srv/app"]


@pytest.mark.usefixtures("packages")
def test_build_of_packages_goes_beside_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / "image.root/usr").mkdir(parents=True)
    words = ("--package", "python3", "--compression", "gzip", "--packages", tmp_path / "cache")
    assert run("build", tmp_path / "image", *words) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"image", "image.root"}
    assert [path.name for path in (tmp_path / "image.root").iterdir()] == ["usr"]


@pytest.mark.usefixtures("packages")
def test_directory_that_would_hide_a_link_of_the_packages_is_refused(tmp_path: Path) -> None:
    """Above Debian's `bin -> usr/bin` a directory `bin` would be all that /bin holds."""
    (tmp_path / "root/bin").mkdir(parents=True)
    words = ("--package", "python3", "--compression", "gzip", "--packages", tmp_path / "cache")
    both = (*words, "--directory", tmp_path / "root")
    assert refusal("build", tmp_path / "x", *both) == "build.directory"
    assert not (tmp_path / "x").exists()
    (tmp_path / "root/bin").rename(tmp_path / "root/opt")
    assert run("build", tmp_path / "x", *both) == 0


def test_image_of_nothing_is_refused(tmp_path: Path) -> None:
    assert refusal("build", tmp_path / "x") == "build.content"


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


def test_encrypt_looks_at_its_source_and_target_before_it_makes_or_tells_a_key(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kbs = Kbs(monkeypatch)
    monkeypatch.setattr("rootfs_builder.container_image.command.open_admin", lambda *_: object())

    def register(_admin: object, keys: tuple[KbsRecipient, ...], **_envelope: bool) -> None:
        for key in keys:
            kbs.take(key.uri, key.key)

    monkeypatch.setattr("rootfs_builder.container_image.command.register_keys", register)
    admin = ("--kbs", "https://kbs.example", "--kbs-ca", "x", "--kbs-admin-key", "x")
    words = ("--recipient", URI, "--output", tmp_path / "o", *admin)
    assert refusal("encrypt", f"oci:{layout}", f"oci:{layout}", *words) == "image.exists"
    assert refusal("encrypt", f"oci:{layout}", "x", *words) == "image.location"
    assert refusal("encrypt", f"oci:{tmp_path}", "oci:y", *words) == "layout.missing"
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
    monkeypatch.setattr("ssl.SSLContext.load_verify_locations", lambda *_paths: None)
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
    monkeypatch.setattr("ssl.SSLContext.load_verify_locations", lambda *_paths: None)
    kbs = Kbs(monkeypatch, refuses=True)
    CALLS.clear()
    with pytest.raises(PeerError) as refused:
        encrypt_into_kbs(layout, tmp_path)
    assert refused.value.reason == "kbs.status"
    assert CALLS == []
    kbs.refuses = False
    encrypt_into_kbs(layout, tmp_path)
    assert [call[0] for call in CALLS] == ["skopeo"]


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


def test_keys_on_a_curve_that_nothing_here_has_are_refused_as_others(
    layout: Path, tmp_path: Path
) -> None:
    public, private = tmp_path / "public.pem", tmp_path / "private.pem"
    public.write_bytes(PUBLIC_PEM)
    private.write_bytes(PRIVATE_PEM)
    output = ("--output", tmp_path / "out")
    words = ("encrypt", f"oci:{layout}", f"oci:{tmp_path / 'x'}", *output, "--recipient")
    assert refusal(*words, f"jwe:{public}") == "encrypt.recipient"
    where = ("--identity", "r.example/web", "--signature", f"oci:{tmp_path / 'signature'}")
    assert refusal("sign", f"oci:{layout}", "--key", private, *output, *where) == "sign.key"
    kbs = ("--kbs", "https://kbs.example", "--kbs-ca", public, "--kbs-admin-key", private)
    assert refusal(*words, URI, *kbs) == "kbs.admin_key"


def test_authority_of_a_kbs_that_is_no_certificate_is_named(layout: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        encrypt_into_kbs(layout, tmp_path)
    assert refused.value.reason == "kbs.ca"
    assert str(tmp_path / "kbs.pem") in refused.value.detail
    assert not (tmp_path / "output").exists()


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


@pytest.mark.parametrize("option", ["--entrypoint", "--env", "--user", "--cwd"])
def test_text_that_no_config_can_hold_makes_no_image(tmp_path: Path, option: str) -> None:
    """The guest would refuse the image when it has pulled it."""
    (tmp_path / "root").mkdir()
    words = ("--directory", tmp_path / "root")
    layout = tmp_path / "image"
    assert refusal("build", layout, *words, f"{option}=A=/\udcff") == "build.text"
    assert not layout.exists()
    assert run("build", layout, *words, f"{option}=A=/é") == 0
