"""Real signers and an independent verifier: cosign and skopeo from the tools tree, on loopback."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from ccinit.errors import CcinitError, ConfigError
from ccinit.pull.messages.fetch import SignaturePolicy
from tests.fakes.images.registry import FakeImage, digest_of, make_image
from tests.fakes.images.signatures import EMPTY, Attachment
from tests.fakes.images.tars import Entry, make_tar
from tests.integration.pull.native_pull import pulled
from tests.integration.pull.real_registry import TOOLS, Registry

TRUSTED_ROOT = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
PASSWORD = {"COSIGN_PASSWORD": "", "COSIGN_YES": "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """cosign's files."""

    private: Path
    public: Path


@dataclass(frozen=True, slots=True)
class Client:
    """Uploads to a registry, whatever the bytes say."""

    registry: Registry
    repository: str
    certificate: tuple[str, bytes] | None = None

    @property
    def name(self) -> str:
        return f"{self.registry.host}/{self.repository}"

    def push(self, image: FakeImage) -> str:
        """Upload an image; return its reference by digest."""
        for blob in image.blobs.values():
            self.blob(blob)
        self.manifest(image.digest, image.manifest, image.content_type)
        return f"{self.name}@{image.digest}"

    def attach(self, tag: str, attachment: Attachment) -> None:
        """Upload a signature manifest under a tag."""
        config = b'{"rootfs":{"type":"layers","diff_ids":[]}}'
        for blob in (*attachment.blobs, config, EMPTY):
            self.blob(blob)
        self.manifest(tag, attachment.manifest)

    def blob(self, data: bytes) -> None:
        with self._client() as client:
            begun = client.post(f"/v2/{self.repository}/blobs/uploads/").raise_for_status()
            url = httpx.URL(begun.headers["location"]).copy_merge_params(
                {"digest": digest_of(data)}
            )
            client.put(url, content=data).raise_for_status()

    def manifest(
        self, name: str, data: bytes, media_type: str = "application/vnd.oci.image.manifest.v1+json"
    ) -> None:
        with self._client() as client:
            client.put(
                f"/v2/{self.repository}/manifests/{name}",
                content=data,
                headers={"Content-Type": media_type},
            ).raise_for_status()

    def _client(self) -> httpx.Client:
        context = self.registry.authority.client_context()
        if self.certificate is not None:
            with tempfile.NamedTemporaryFile() as file:
                file.write(self.certificate[0].encode() + self.certificate[1])
                file.flush()
                context.load_cert_chain(file.name)
        return httpx.Client(base_url=f"https://{self.registry.host}", verify=context, timeout=30)


def make_key_pair(directory: Path) -> KeyPair:
    """Let cosign make a key on P-256."""
    directory.mkdir(parents=True)
    TOOLS.run(
        ("cosign", "generate-key-pair"),
        directories=(directory,),
        working_directory=directory,
        environment=PASSWORD,
    )
    return KeyPair(private=directory / "cosign.key", public=directory / "cosign.pub")


def cosign(
    registry: Registry,
    keys: KeyPair,
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run cosign with the registry's authority and without any service of Sigstore's."""
    directories = [registry.authority.ca.parent, keys.private.parent]
    directories += [one.parent for one in arguments if isinstance(one, Path)]
    TOOLS.run(
        (
            "cosign",
            *arguments,
            *("--key", keys.private, "--tlog-upload=false"),
            *("--registry-cacert", registry.authority.ca),
        ),
        directories=tuple(dict.fromkeys(directories)),
        environment={**PASSWORD, **(environment or {})},
    )


def cosign_sign_blob(keys: KeyPair, blob: Path) -> bytes:
    """Let cosign sign a file; return the bundle."""
    bundle = blob.with_suffix(".bundle")
    TOOLS.run(
        (
            *("cosign", "sign-blob", "--new-bundle-format", "--tlog-upload=false"),
            *("--bundle", bundle, "--key", keys.private, blob),
        ),
        directories=(keys.private.parent, blob.parent),
        environment=PASSWORD,
    )
    return bundle.read_bytes()


def cosign_verifies_blob(key: Path, blob: Path, bundle: Path) -> bool:
    """Return what cosign says of a bundle that it has not made; it trusts no service."""
    nobody = bundle.with_suffix(".json")
    nobody.write_text(json.dumps({"mediaType": TRUSTED_ROOT}))
    try:
        TOOLS.run(
            (
                *("cosign", "verify-blob", "--new-bundle-format", "--insecure-ignore-tlog"),
                *("--trusted-root", nobody, "--bundle", bundle, "--key", key, blob),
            ),
            directories=(key.parent, blob.parent, bundle.parent),
            environment=PASSWORD,
        )
    except ConfigError:
        return False
    return True


def skopeo_accepts(
    registry: Registry, reference: str, policy: bytes, directory: Path
) -> str | None:
    """Copy an image with skopeo under a policy; return its complaint, or None if it went well."""
    lookaside = directory / "registries.d"
    lookaside.mkdir(parents=True)
    (lookaside / "all.yaml").write_text("default-docker: {use-sigstore-attachments: true}\n")
    (directory / "policy.json").write_bytes(policy)
    try:
        TOOLS.run(
            (
                *("skopeo", "--policy", directory / "policy.json", "--registries.d", lookaside),
                *("copy", "--quiet", "--src-cert-dir", registry.authority.ca.parent),
                *(f"docker://{reference}", f"dir:{directory}/copy"),
            ),
            directories=(directory, registry.authority.ca.parent),
        )
    except ConfigError as error:
        return error.detail
    return None


def skopeo_sign(registry: Registry, source: str, target: str, keys: KeyPair, work: Path) -> None:
    """Copy an image within the registry, signed with cosign's key."""
    lookaside = work / "registries.d"
    lookaside.mkdir(parents=True)
    (lookaside / "all.yaml").write_text("default-docker: {use-sigstore-attachments: true}\n")
    (work / "passphrase").write_text("\n")
    certificates = registry.authority.ca.parent
    TOOLS.run(
        (
            *("skopeo", "--insecure-policy", "--registries.d", lookaside, "copy", "--quiet"),
            *("--sign-by-sigstore-private-key", keys.private),
            *("--sign-passphrase-file", work / "passphrase"),
            *("--src-cert-dir", certificates, "--dest-cert-dir", certificates),
            *(f"docker://{source}", f"docker://{target}"),
        ),
        directories=(work, keys.private.parent, certificates),
    )


def policy_json(requirement: Mapping[str, object]) -> bytes:
    """A policy with one requirement for every registry."""
    transports = {"docker": {"": [requirement]}}
    return json.dumps({"default": [{"type": "reject"}], "transports": transports}).encode()


def image_of(name: str) -> FakeImage:
    return make_image([make_tar(Entry("etc/motd", name.encode()))])


def verdict(registry: Registry, reference: str, policy: bytes, directory: Path) -> str | None:
    """Pull as the guest does; return the reason of a refusal."""
    document = SignaturePolicy(document=policy, keys=())
    try:
        with pulled(reference, registry.authority.ca_pem, directory, policy=document):
            return None
    except CcinitError as error:
        assert list(directory.iterdir()) == []
        return error.reason
