"""The builder's images, with skopeo as the other party: it decrypts them and checks signatures."""

import json
import subprocess
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ccinit.errors import CcinitError, ConfigError
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.pull.messages.fetch import SignaturePolicy
from rootfs_builder.cli import main
from rootfs_builder.container_image.oci_layout import TAG, open_layout, read_blob
from tests.integration.pull.native_pull import describe_tree, overlaid, pulled
from tests.integration.pull.real_registry import (
    TOOLS,
    Registry,
)
from tests.integration.pull.recipients import Recipient

PACKAGES = Path("build/cache/container")
URI = "kbs:///ccinit/demo/image-key-web"


def build(layout: Path) -> None:
    """An image of one Debian package and what it depends on."""
    run("build", layout, "--package", "base-passwd", "--packages", PACKAGES)


def run(command: str, *words: object) -> None:
    arguments = ("container-image", command, *map(str, words), "--tools", str(TOOLS.path))
    assert main(arguments) == 0


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "layout"
    build(path)
    return path


def layer_digests(layout: Path) -> list[str]:
    manifest = json.loads(read_blob(layout, open_layout(layout).digest))
    return [layer["digest"] for layer in manifest["layers"]]


def test_image_of_packages_is_the_same_again(layout: Path, tmp_path: Path) -> None:
    build(tmp_path / "again")
    assert open_layout(tmp_path / "again").digest == open_layout(layout).digest


def test_image_of_packages_can_run_what_they_bring(layout: Path, tmp_path: Path) -> None:
    """A program by its path in /bin, and its loader by the one in /lib64."""
    (layer,) = layer_digests(layout)
    tar = zstandard.ZstdDecompressor().stream_reader(read_blob(layout, layer)).read()
    subprocess.run(("tar", "--extract", "--directory", tmp_path), input=tar, check=True)
    said = subprocess.check_output(("chroot", tmp_path, "/bin/mawk", "BEGIN { print 6 * 7 }"))
    assert said == b"42\n"


@pytest.mark.parametrize("name", ["rsa", "p256", "p384", "p521"])
def test_image_that_the_builder_encrypted_is_decrypted_by_skopeo(
    layout: Path,
    registry: Registry,
    recipients: dict[str, Recipient],
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipient, ca = recipients[name], registry.authority.ca
    target = f"docker://{registry.host}/built/{name}:1"
    run(
        *("encrypt", f"oci:{layout}", target, "--ca", ca, "--output", tmp_path / "output"),
        *("--recipient", f"jwe:{recipient.public}", "--recipient", URI),
    )
    reference = capsys.readouterr().out.strip()
    TOOLS.run(
        (
            *("skopeo", "copy", "--quiet", "--insecure-policy", "--src-cert-dir", ca.parent),
            *("--decryption-key", recipient.private),
            *(f"docker://{reference}", f"oci:{tmp_path}/decrypted:{TAG}"),
        ),
        directories=(tmp_path, ca.parent, recipient.private.parent),
    )
    assert layer_digests(tmp_path / "decrypted") == layer_digests(layout)
    with pytest.raises(ConfigError) as refused:  # and not without the key
        TOOLS.run(
            (
                *("skopeo", "copy", "--quiet", "--insecure-policy", "--src-cert-dir", ca.parent),
                *("--decryption-key", recipients["rsa" if name != "rsa" else "p256"].private),
                *(f"docker://{reference}", f"oci:{tmp_path}/refused:{TAG}"),
            ),
            directories=(tmp_path, ca.parent, *(one.private.parent for one in recipients.values())),
        )
    assert "No suitable private key found for decryption" in refused.value.detail
    kek = (tmp_path / "output/keys/ccinit/demo/image-key-web").read_bytes()
    for number, keys in enumerate(({URI: kek}, {URI: recipient.private_pem})):
        work = tmp_path / f"guest-{number}"
        with (
            pulled(
                reference,
                registry.authority.ca_pem,
                work,
                keys=keys,
                encryption=ImageEncryption.REQUIRED,
            ) as image,
            overlaid(image, work.with_suffix(".overlay")) as merged,
        ):
            assert "etc/passwd" in describe_tree(merged)


def skopeo_verifies(policy: Path, reference: str, registry: Registry, work: Path) -> None:
    """Copy under a policy; registries.d tells skopeo to look for attached signatures."""
    (work / "registries.d").mkdir(exist_ok=True)
    (work / "registries.d/default.yaml").write_text(
        "default-docker:\n  use-sigstore-attachments: true\n"
    )
    ca = registry.authority.ca.parent
    TOOLS.run(
        (
            *("skopeo", "--policy", policy, "--registries.d", work / "registries.d"),
            *("copy", "--quiet", "--remove-signatures", "--src-cert-dir", ca),
            *(f"docker://{reference}", f"oci:{work}/verified:{TAG}"),
        ),
        directories=(work, ca, policy.parent),
    )


def write_signing_key(path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def test_signature_by_the_builder_is_verified_by_skopeo(
    layout: Path, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca = ("--ca", registry.authority.ca)
    repository = f"{registry.host}/signed/image"
    run("push", f"oci:{layout}", f"docker://{repository}:1", *ca)
    reference = capsys.readouterr().out.strip()
    assert reference == f"{repository}@{open_layout(layout).digest}"
    key = write_signing_key(tmp_path / "signing.pem")
    words = (f"docker://{reference}", "--key", key, *ca)
    policy = tmp_path / "output/policy.json"
    other = write_signing_key(tmp_path / "other.pem")
    run("sign", *words[:2], other, *ca, "--output", tmp_path / "other")  # by another key
    run("sign", *words, "--output", tmp_path / "output", "--signature", f"oci:{tmp_path}/unused")
    with pytest.raises(ConfigError) as refused:
        skopeo_verifies(policy, reference, registry, tmp_path)
    assert "signature" in refused.value.detail
    run("sign", *words, "--output", tmp_path / "output")
    skopeo_verifies(policy, reference, registry, tmp_path)
    assert layer_digests(tmp_path / "verified") == layer_digests(layout)


def test_encrypted_and_signed_image_is_one_that_both_accept(
    layout: Path, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Encrypt first, then sign: the signature is over the manifest that the guest pins.

    The builder's policy is what the guest is given.
    """
    ca, output = ("--ca", registry.authority.ca), ("--output", tmp_path / "output")
    target = f"docker://{registry.host}/both/image:1"
    run("encrypt", f"oci:{layout}", target, "--recipient", URI, *ca, *output)
    reference = capsys.readouterr().out.strip()
    key = write_signing_key(tmp_path / "signing.pem")
    run("sign", f"docker://{reference}", "--key", key, *ca, *output)
    skopeo_verifies(tmp_path / "output/policy.json", reference, registry, tmp_path)
    keys = {URI: (tmp_path / "output/keys/ccinit/demo/image-key-web").read_bytes()}
    policy = policy_in(tmp_path / "output")
    roots = registry.authority.ca_pem
    with pulled(reference, roots, tmp_path / "pull", keys=keys, policy=policy) as image:
        assert str(image.manifest) == reference.partition("@")[2]
    with (
        pytest.raises(CcinitError) as refused,
        pulled(reference, roots, tmp_path / "refused", keys={}, policy=policy),
    ):
        pass
    assert refused.value.reason == "pull.layer_key"
    other = write_signing_key(tmp_path / "other.pem")
    unused = ("--signature", f"oci:{tmp_path}/unused", "--output", tmp_path / "other")
    run("sign", f"docker://{reference}", "--key", other, *ca, *unused)
    with (
        pytest.raises(CcinitError) as unsigned,
        pulled(
            reference,
            roots,
            tmp_path / "other-key",
            keys=keys,
            policy=policy_in(tmp_path / "other"),
        ),
    ):
        pass
    assert unsigned.value.reason == "signature.key"


def policy_in(output: Path) -> SignaturePolicy:
    return SignaturePolicy(document=(output / "policy.json").read_bytes(), keys=())
