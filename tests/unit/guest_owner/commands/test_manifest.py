"""`guest-owner manifest`: what it begins, what it finds, and what the guest says to the same."""

import base64
import datetime as dt
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ccinit.errors import ConfigError, FormatError
from ccinit.formats.initdata.document import document_digest
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.formats.sealed_log import OWNER_KEY_BYTES, BootId
from ccinit.net.tls import pinned_context, present_certificate
from ccinit.seal.stream import open_stream
from tests.fakes.documents.guest import LOG_KEY
from tests.unit.guest_owner.command_line import error_of, run
from tests.unit.guest_owner.commands.manifest_documents import AUTHORITY, CA, CONFIG

IMAGE = f"registry.example/team/shop@sha256:{'ab' * 32}"
SECOND = '[[container]]\nname = "other"\nimage = "shop"\n'


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """A pod.toml as `init` makes it."""
    (tmp_path / "ca.pem").write_text(CA)
    assert init(tmp_path, IMAGE) == 0
    return tmp_path / "pod.toml"


def init(folder: Path, image: str, scratch_mib: int = 64) -> int:
    return run(
        *("manifest", "init", "--image", image, "--name", "shop", "--ca", folder / "ca.pem"),
        *("--scratch-mib", scratch_mib, "--output", folder / "pod.toml"),
    )


def test_begun_manifest_is_one_that_the_guest_accepts(
    pod: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = parse_pod_manifest(pod.read_text())
    assert (made.name, made.images[0].reference, made.images[0].ca_pem) == ("shop", IMAGE, CA)
    assert made.volume("scratch").size_bytes == 64 << 20
    assert made.allow.exec == made.allow.evidence == ()
    assert run("manifest", "check", pod) == 0
    assert "would accept" in capsys.readouterr().out


def test_begun_manifest_may_be_one_without_a_disk(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(CA)
    assert init(tmp_path, IMAGE, scratch_mib=0) == 0
    assert parse_pod_manifest((tmp_path / "pod.toml").read_text()).volumes == ()


def test_manifest_that_is_begun_again_takes_the_place_of_the_other(pod: Path) -> None:
    first = pod.read_text()
    assert init(pod.parent, IMAGE, scratch_mib=128) == 0
    assert pod.read_text() != first
    assert parse_pod_manifest(pod.read_text()).volume("scratch").size_bytes == 128 << 20


def test_image_without_a_digest_begins_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text(CA)
    assert init(tmp_path, "registry.example/team/shop:latest") == 2
    assert "[reference." in error_of(capsys)
    assert not (tmp_path / "pod.toml").exists()


def test_manifest_of_another_form_is_refused_as_the_guest_would(
    pod: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.write_text(pod.read_text() + "[allow]\nshell = true\n")
    assert run("manifest", "check", pod) == 1
    assert "[pod.allow" in error_of(capsys)


VOLUME = """[[volume]]
name = "data"
kind = "persistent"
size_bytes = 67108864
key = "kbs:///ccinit/shop/volume-key-data"
grown_from_bytes = [33554432, 16777216]
"""


def test_volume_that_would_grow_is_told(pod: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pod.write_text(pod.read_text() + VOLUME)
    assert run("manifest", "check", pod) == 0
    assert "data: a file system of a disk of 16777216 or 33554432 bytes" in capsys.readouterr().out


def test_volume_that_cannot_grow_is_refused_as_the_guest_would(
    pod: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.write_text(pod.read_text() + VOLUME + 'format = "luks2"\n')
    assert run("manifest", "check", pod) == 1
    assert "ccinit grows [pod.volume.grown_from_bytes]" in error_of(capsys)


def test_order_that_cannot_be_is_refused_as_the_guest_would(
    pod: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = 'image = "shop"\ndepends_on = ["other"]\n'
    begun = pod.read_text().replace('image = "shop"\n', waits) + SECOND
    pod.write_text(begun)
    assert run("manifest", "check", pod) == 0
    pod.write_text(begun + 'depends_on = ["shop"]\n')
    assert run("manifest", "check", pod) == 1
    assert "shop, other wait for each other [pod.container.depends_on]" in error_of(capsys)


def test_place_that_is_taken_is_refused_as_the_guest_would(
    pod: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = '[[secret]]\ncontainer = "shop"\nuri = "kbs:///a/b/c"\nfile = "/etc/%s"\n'
    begun = pod.read_text()
    pod.write_text(begun + secret % "key")
    assert run("manifest", "check", pod) == 0
    pod.write_text(begun + secret % "hosts")
    assert run("manifest", "check", pod) == 1
    assert "shop: two things at /etc/hosts [pod.secret.file]" in error_of(capsys)


def test_tags_that_no_guest_could_keep_are_refused_as_the_guest_would(
    pod: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = '[[volume]]\nname = "s%d"\nkind = "scratch"\nsize_bytes = 8589934592\n'
    begun, config = pod.read_text(), tmp_path / "ccinit.toml"
    config.write_text(f"{CONFIG}\n[limits]\nscratch_tags_bytes = 67108864\n")
    pod.write_text(begun + disk.replace("8589934592", "68719476736") % 1)
    assert run("manifest", "check", pod) == 0
    assert "raises a limit: expected at most 269484032 bytes" in capsys.readouterr().out
    pod.write_text(begun + disk % 1)
    assert run("manifest", "check", pod) == 0
    assert run("manifest", "check", pod, "--config", config) == 1
    printed = capsys.readouterr().out
    assert "pod.volume.size_bytes  expected at most 67108864 bytes of memory" in printed
    pod.write_text(begun + "".join(disk % number for number in range(4)))
    assert run("manifest", "check", pod) == 1
    assert "expected at most 4 scratch disks with tags in memory, found 5" in error_of(capsys)


BROKEN = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
LEAF = AUTHORITY.issue()[1].public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("roots", "found"), [(BROKEN, "not PEM certificates"), (LEAF, "not an authority's")]
)
def test_roots_that_the_guest_could_trust_nobody_by_are_found(
    pod: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], roots: str, found: str
) -> None:
    config = tmp_path / "ccinit.toml"
    owner = f"[owner]\nclient_ca = '''\n{CA}'''\n"
    config.write_text(CONFIG + owner)
    assert run("manifest", "check", pod, "--config", config) == 0
    with pytest.raises(ConfigError, match=r"net\.roots"):
        pinned_context(roots, check_time=True)
    config.write_text((CONFIG + owner).replace(CA, roots))
    registry = f"[[registry]]\nlocation = 'in.example'\nca = '''\n{roots}'''\n"
    pod.write_text(pod.read_text().replace(CA, roots) + registry)
    capsys.readouterr()
    assert run("manifest", "check", pod, "--config", config) == 1
    printed = capsys.readouterr().out
    places = ("image shop, ca", "registry in.example, ca", "kbs.ca", "owner.client_ca")
    for place in places:
        assert f"net.roots  {place}: " in printed
    assert printed.count(found) == len(places)


def test_roots_may_have_other_letters_around_them_as_in_the_guest(
    pod: Path, tmp_path: Path
) -> None:
    config = tmp_path / "ccinit.toml"
    roots = f"# Größe\n{CA}"
    config.write_text(CONFIG.replace(CA, roots))
    pod.write_text(pod.read_text().replace(CA, roots))
    assert run("manifest", "check", pod, "--config", config) == 0
    assert pinned_context(roots, check_time=True).get_ca_certs()


@pytest.mark.parametrize(
    "key", [b"\xff" * OWNER_KEY_BYTES, LOG_KEY[:-32] + bytes(32)], ids=["mlkem", "low order"]
)
def test_log_key_that_no_guest_could_seal_to_is_found(
    pod: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: bytes
) -> None:
    config = tmp_path / "ccinit.toml"
    config.write_text(CONFIG)
    assert run("manifest", "check", pod, "--config", config) == 0
    open_stream(LOG_KEY, BootId(bytes(16)))
    with pytest.raises(FormatError) as refused:
        open_stream(key, BootId(bytes(16)))
    usual, other = (base64.b64encode(one).decode() for one in (LOG_KEY, key))
    assert usual in CONFIG
    config.write_text(CONFIG.replace(usual, other))
    capsys.readouterr()
    assert run("manifest", "check", pod, "--config", config) == 1
    assert f"{refused.value.reason}  log.public_key: " in capsys.readouterr().out


REGISTRY = (
    '[[registry]]\nlocation = "in.example"\ncertificate = """\n{}"""\nkey = "kbs:///a/b/c"\n'
    '[[registry.mirror]]\nlocation = "near.example"\ncertificate = """\n{}"""\n'
    'key = "kbs:///a/b/c"\n'
)


def of_version_6(certificate: x509.Certificate) -> str:
    """One that the library refuses; OpenSSL does not look at the number."""
    der = certificate.public_bytes(Encoding.DER)
    other = der.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020105"), 1)
    assert other != der
    return ssl.DER_cert_to_PEM_cert(other)


def test_client_certificate_that_the_guest_would_take_is_taken(pod: Path) -> None:
    key, certificate = AUTHORITY.issue()
    usual = certificate.public_bytes(Encoding.PEM).decode()
    begun = pod.read_text()
    for taken in (usual, f"des Prüfstands:\n{usual}", of_version_6(certificate)):
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        present_certificate(
            pinned_context(CA, check_time=True), taken.encode() + private, "net.client_certificate"
        )
        pod.write_text(begun + REGISTRY.format(taken, taken), "utf-8")
        assert run("manifest", "check", pod) == 0


def test_client_certificate_that_is_none_is_found(
    pod: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = pod.read_text()
    pod.write_text(begun + REGISTRY.format(LEAF, BROKEN))
    assert run("manifest", "check", pod) == 1
    printed = capsys.readouterr().out
    assert printed.count("net.client_certificate  registry in.example, certificate: ") == 1
    with pytest.raises(ConfigError, match=r"net\.client_certificate"):
        present_certificate(
            pinned_context(CA, check_time=True), BROKEN.encode(), "net.client_certificate"
        )


def ended_root() -> str:
    builder = (
        x509.CertificateBuilder()
        .subject_name(AUTHORITY.certificate.subject)
        .issuer_name(AUTHORITY.certificate.subject)
        .public_key(AUTHORITY.key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2021, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(AUTHORITY.key, SHA256()).public_bytes(Encoding.PEM).decode()


def test_roots_are_found_of_which_all_have_ended(
    pod: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, begun = tmp_path / "ccinit.toml", pod.read_text()
    config.write_text(CONFIG)
    pod.write_text(begun.replace(CA, ended_root() + CA))  # while one takes the other's place
    assert run("manifest", "check", pod, "--config", config) == 0
    capsys.readouterr()
    config.write_text(CONFIG.replace(CA, ended_root()))
    pod.write_text(begun.replace(CA, ended_root()))
    assert run("manifest", "check", pod, "--config", config) == 1
    printed = capsys.readouterr().out
    for place in ("image shop, ca", "kbs.ca"):
        assert f"net.certificate_time  {place}: expired on Jan  1 00:00:00 2021 GMT" in printed


def test_roots_that_are_no_certificate_begin_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text(BROKEN)
    assert init(tmp_path, IMAGE) == 1
    assert "[net.roots]" in error_of(capsys)
    assert not (tmp_path / "pod.toml").exists()


def test_plugins_secret_needs_a_kbs_without_envelopes(
    pod: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "ccinit.toml"
    secret = '[[secret]]\ncontainer = "shop"\nuri = "kbs+pki:///cert"\nfile = "/cert"\n'
    pod.write_text(pod.read_text() + secret)
    for envelope, status in (("required", 1), ("none", 0)):
        config.write_text(CONFIG.replace('"required"', f'"{envelope}"'))
        assert run("manifest", "check", pod, "--config", config) == status
    assert "pod.secret.uri" in capsys.readouterr().out


@pytest.mark.parametrize(("other", "status"), [("shop-db", 1), ("other", 0)])
def test_resource_of_two_uses_is_refused_as_the_guest_would(
    pod: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str, status: int
) -> None:
    (tmp_path / "ccinit.toml").write_text(CONFIG)
    volume = (
        '[[volume]]\nname = "db"\nkind = "persistent"\nsize_bytes = 1073741824\n'
        'key = "kbs:///a/keys/shop-db"\n'
    )
    secret = f'[[secret]]\ncontainer = "shop"\nuri = "kbs:///a/keys/{other}"\nfile = "/key"\n'
    pod.write_text(pod.read_text() + volume + secret)
    for config in ((), ("--config", tmp_path / "ccinit.toml")):
        assert run("manifest", "check", pod, *config) == status
        assert ("pod.resource" in capsys.readouterr().out) is (status == 1)


def test_digests_are_those_of_the_documents_that_would_be_made(
    pod: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, document = tmp_path / "ccinit.toml", tmp_path / "initdata.toml"
    config.write_text(CONFIG)
    assert run("manifest", "digest", pod, "--config", config) == 0
    printed = capsys.readouterr().out
    for platform, algorithm in (("tpm", "sha256"), ("tdx", "sha384")):
        made = ("--config", config, "--pod", pod, "--output", document, "--platform", platform)
        assert run("initdata", "make", *made) == 0
        assert document_digest(document.read_bytes(), algorithm).hex() in printed
