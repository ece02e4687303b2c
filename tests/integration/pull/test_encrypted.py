"""Images that skopeo encrypted, from a real registry, opened by the guest's own jobs.

The tree must be the one that the same image gives in clear. The children run under all their
restrictions in `test_whole_pull_works_under_the_restrictions_of_its_children`.
"""

import gzip
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from ccinit import values
from ccinit.agent.guest import PhaseTime
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.images import pull
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.phases.pull_children import ImageChildren
from ccinit.agent.phases.storage import Unlocked
from ccinit.agent.processes.children import Children
from ccinit.agent.teardown import Teardown
from ccinit.errors import CcinitError
from ccinit.formats.initdata.guest_config import Limits
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.pod.manifest import Image
from ccinit.kernel.event_loop import EventLoop
from ccinit.pull.erofs.index import IndexRequest
from ccinit.pull.image import unmount_layers
from ccinit.pull.messages.fetch import PulledBlobs, PullRequest
from ccinit.pull.reception import Begin
from ccinit.pull.verdict import Decide
from ccinit.secret import Secret
from rootfs_builder.container_image.oci_layout import TAG, ContainerImage, ImageLayer, write_layout
from tests.fakes.images.encrypted_image import (
    KEK,
    KID,
    annotations,
    b64,
    make_encrypted_image,
    packet,
    private_options,
    seal,
)
from tests.fakes.images.hostile_registry import serve_hostile
from tests.fakes.images.registry import LAYER, REPOSITORY, FakeImage, make_image
from tests.fakes.images.tars import Entry, make_tar
from tests.integration.pull.native_pull import describe_tree, overlaid, pulled, run_mkfs
from tests.integration.pull.real_registry import (
    TOOLS,
    Authority,
    Registry,
    push_image,
)
from tests.integration.pull.recipients import Recipient

KEY_URI = "kbs:///ccinit/demo/image-key"
TARS = (
    make_tar(Entry("etc", None), Entry("etc/motd", b"hello" * 1000), Entry("old", b"x")),
    make_tar(Entry("etc/more", b"world"), Entry(".wh.old")),
    make_tar(Entry("big", os.urandom(3_000_001))),
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ContainerImage:
    """One layer of each compression."""
    fake = [make_image([tar]) for tar in TARS]
    gzip_blob = fake[0].blobs[fake[0].blob_names()[0]]
    zstd_blob = TOOLS.run(("zstd", "-q", "-c"), input_data=TARS[1])
    layers = [
        ImageLayer(media_type=f"{LAYER}{suffix}", blob=blob, diff_id=diff_id(one))
        for suffix, blob, one in (
            ("+gzip", gzip_blob, fake[0]),
            ("+zstd", zstd_blob, fake[1]),
            ("", TARS[2], fake[2]),
        )
    ]
    return write_layout(layers, {"Cmd": ["/bin/true"]}, tmp_path_factory.mktemp("plain") / "layout")


def diff_id(image: FakeImage) -> str:
    text: str = json.loads(image.config)["rootfs"]["diff_ids"][0]
    return text


@pytest.fixture(scope="module")
def tree(
    plain: ContainerImage, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> object:
    """What the image shows when nobody has encrypted it."""
    reference = push_image(plain, f"{registry.host}/plain/image", registry.authority.ca)
    work = tmp_path_factory.mktemp("tree")
    return pulled_tree(reference, registry, work, {}, ImageEncryption.NONE)


def pulled_tree(
    reference: str,
    registry: Registry,
    work: Path,
    keys: dict[str, bytes],
    encryption: ImageEncryption = ImageEncryption.REQUIRED,
) -> object:
    with (
        pulled(
            reference, registry.authority.ca_pem, work / "pull", keys=keys, encryption=encryption
        ) as image,
        overlaid(image, work / "overlay") as merged,
    ):
        return describe_tree(merged)


def encrypt_with_skopeo(
    image: ContainerImage,
    registry: Registry,
    recipients: Sequence[tuple[str, Path]],
    name: str,
    *more: str,
) -> str:
    """Encrypt while pushing; return the reference."""
    repository = f"{registry.host}/encrypted/{name}"
    folder = registry.authority.ca.parent
    digest_file = image.layout.parent / f"{name}.digest"
    TOOLS.run(
        (
            *("skopeo", "copy", "--quiet", "--insecure-policy", "--dest-cert-dir", str(folder)),
            *(f"--encryption-key={scheme}:{path}" for scheme, path in recipients),
            *("--digestfile", str(digest_file), *more),
            *(f"oci:{image.layout}:{TAG}", f"docker://{repository}:{TAG}"),
        ),
        directories=(image.layout.parent, folder, *(path.parent for _scheme, path in recipients)),
    )  # fmt: skip
    return f"{repository}@{digest_file.read_text()}"


CASES: dict[str, tuple[tuple[tuple[str, str], ...], str]] = {
    "jwe-rsa": ((("jwe", "rsa"),), "rsa"),
    "jwe-p256": ((("jwe", "p256"),), "p256"),
    "jwe-p384": ((("jwe", "p384"),), "p384"),
    "jwe-p521": ((("jwe", "p521"),), "p521"),
    "jwe-two-first": ((("jwe", "rsa"), ("jwe", "p256")), "rsa"),
    "jwe-two-second": ((("jwe", "rsa"), ("jwe", "p256")), "p256"),
    "pkcs7": ((("pkcs7", "rsa"),), "rsa"),
    "both-schemes": ((("pkcs7", "rsa"), ("jwe", "p384")), "rsa"),
}


@pytest.mark.parametrize("name", CASES)
def test_image_encrypted_by_skopeo_gives_the_tree_of_the_plain_one(
    plain: ContainerImage,
    tree: object,
    registry: Registry,
    recipients: dict[str, Recipient],
    tmp_path: Path,
    name: str,
) -> None:
    encrypted_to, opened_by = CASES[name]
    files = [
        (scheme, recipients[key].certificate if scheme == "pkcs7" else recipients[key].public)
        for scheme, key in encrypted_to
    ]
    reference = encrypt_with_skopeo(plain, registry, files, name)
    key = recipients[opened_by].private_pem
    assert pulled_tree(reference, registry, tmp_path, {KEY_URI: key}) == tree
    stranger = next(
        other for other in recipients if (other not in {key for _, key in encrypted_to})
    )
    with pytest.raises(CcinitError) as refused:
        pulled_tree(
            reference, registry, tmp_path / "refused", {KEY_URI: recipients[stranger].private_pem}
        )
    assert refused.value.reason == "pull.layer_key"


GOOD_TAR = make_tar(Entry("etc/motd", b"hello" * 1000))
GOOD_LAYER = seal(GOOD_TAR)
KEYS = {KID: KEK}


def hostile_pull(
    image: FakeImage,
    authority: Authority,
    work: Path,
    keys: dict[str, bytes] | None = None,
    encryption: ImageEncryption = ImageEncryption.REQUIRED,
) -> None:
    with serve_hostile(image, authority.server_context()) as hostile:
        reference = f"localhost:{hostile.port}/{REPOSITORY}@{image.digest}"
        with pulled(
            reference,
            authority.ca_pem,
            work,
            keys=KEYS if keys is None else keys,
            encryption=encryption,
        ):
            pass


BROKEN: dict[str, tuple[FakeImage, str]] = {
    "another HMAC": (
        make_encrypted_image(
            [replace(GOOD_LAYER, annotations=annotations(b"another"))], [GOOD_TAR]
        ),
        "enc.hmac",
    ),
    "ciphertext that is cut, by whoever made the manifest": (
        make_encrypted_image([replace(GOOD_LAYER, blob=GOOD_LAYER.blob[:-1])], [GOOD_TAR]),
        "enc.hmac",
    ),
    "another tar under the same key": (
        make_encrypted_image([seal(make_tar(Entry("evil")))], [GOOD_TAR]),
        "pull.diff_id",
    ),
    "a packet for another layer's key": (
        make_encrypted_image(
            [
                replace(
                    GOOD_LAYER,
                    annotations=annotations(
                        GOOD_LAYER.blob, packet(private_options(symkey=b64(b"x" * 32)))
                    ),
                )
            ],
            [GOOD_TAR],
        ),
        "enc.hmac",
    ),
    "a key of a foreign service": (
        make_encrypted_image(
            [
                replace(
                    GOOD_LAYER,
                    annotations=annotations(
                        GOOD_LAYER.blob, packet(kid="kbs://evil.example/default/image-key/1")
                    ),
                )
            ],
            [GOOD_TAR],
        ),
        "enc.packet.kid",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_r58_r60_encrypted_layer_with_a_fault_is_refused_whole(
    authority: Authority, tmp_path: Path, name: str
) -> None:
    image, reason = BROKEN[name]
    with pytest.raises(CcinitError) as refused:
        hostile_pull(image, authority, tmp_path / "refused")
    assert refused.value.reason == reason
    hostile_pull(make_encrypted_image([GOOD_LAYER], [GOOD_TAR]), authority, tmp_path / "taken")


def test_r59_mixture_is_taken_only_if_the_manifest_allows_it(
    authority: Authority, tmp_path: Path
) -> None:
    plain_tar = make_tar(Entry("plain", b"x"))
    mixed = make_encrypted_image([GOOD_LAYER, gzip.compress(plain_tar)], [GOOD_TAR, plain_tar])
    for encryption in (ImageEncryption.REQUIRED, ImageEncryption.NONE):
        with pytest.raises(CcinitError) as refused:
            hostile_pull(mixed, authority, tmp_path / encryption, encryption=encryption)
        assert refused.value.reason == "pull.encryption"
    hostile_pull(mixed, authority, tmp_path / "taken", encryption=ImageEncryption.ALLOWED)


class Confined(ImageChildren):
    """The agent's children; only the program for the index comes from the tools tree."""

    async def index(self, request: IndexRequest) -> None:
        run_mkfs(request)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that children of other users may pass through."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


def guest_with_children() -> Any:
    """As much of a guest as PULL looks at."""
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, (str(Path.cwd()), *sys.path)))}
    return SimpleNamespace(
        children=Children((sys.executable, "-m", "ccinit"), environment),
        event=print,
        teardown=Teardown(),
        figures=SimpleNamespace(image_bytes={}),
        phase_time=PhaseTime(),
    )


def configured_with(*images: Image) -> Any:
    """As much of a configuration as PULL looks at."""
    return SimpleNamespace(
        config=SimpleNamespace(limits=Limits()),
        manifest=SimpleNamespace(images=images, registries=(), secrets=()),
        measurement=SimpleNamespace(note=lambda _event: None),
    )


class Watched(Confined):
    """Tells when a download begins and ends."""

    order: ClassVar[list[str]] = []

    async def fetch(self, request: PullRequest, decide: Decide, begin: Begin) -> PulledBlobs:
        Watched.order.append("begin")
        blobs = await super().fetch(request, decide, begin)
        Watched.order.append("end")
        return blobs


def test_images_are_pulled_at_once_and_a_failure_leaves_no_mount(
    plain: ContainerImage, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccinit.agent.phases.images.ImageChildren", Watched)
    repository = f"{registry.host}/several/image"
    reference = push_image(plain, repository, registry.authority.ca)
    ca_pem = registry.authority.ca_pem
    images = [
        Image(name=name, reference=reference, policy=None, auth=None, ca_pem=ca_pem)
        for name in ("one", "two", "three", "four")
    ]
    refused = values.replace(images[3], name="refused", encryption=ImageEncryption.REQUIRED)
    for wanted in ((*images, refused), tuple(images)):
        Watched.order.clear()
        guest, loop = guest_with_children(), EventLoop()
        with open_folder() as store:
            unlocked = Unlocked(volumes={}, store=str(store))
            attested = Attested(grants={})
            try:
                if refused in wanted:
                    with pytest.raises(CcinitError) as error:
                        loop.run(pull(guest, configured_with(*wanted), attested, unlocked))
                    assert error.value.reason == "pull.encryption"
                else:
                    done = loop.run(pull(guest, configured_with(*wanted), attested, unlocked))
                    assert done.images.keys() == {image.name for image in images}
                    assert len({image.layers for image in done.images.values()}) == 1
                    assert sum(bool(image.own) for image in done.images.values()) == 1
                    assert Watched.order[:3] == ["begin"] * 3
            finally:
                EventLoop().run(guest.teardown.run())
            assert not [path for path in store.rglob("layer-?") if path.is_mount()]


def test_whole_pull_works_under_the_restrictions_of_its_children(
    plain: ContainerImage,
    registry: Registry,
    recipients: dict[str, Recipient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ccinit.agent.phases.images.ImageChildren", Confined)
    files = [("jwe", recipients["p256"].public)]
    image = Image(
        name="web",
        reference=encrypt_with_skopeo(plain, registry, files, "confined"),
        policy=None,
        auth=None,
        ca_pem=registry.authority.ca_pem,
        encryption=ImageEncryption.REQUIRED,
        keys=(parse_resource_uri(KEY_URI),),
    )
    secret = Secret(recipients["p256"].private_pem)
    attested = Attested(grants={image.keys[0]: Grant(secret=secret, create=False)})
    with open_folder() as store:
        unlocked = Unlocked(volumes={}, store=str(store))
        work = pull(guest_with_children(), configured_with(image), attested, unlocked)
        done, directory = EventLoop().run(work).images["web"], store / "image-web"
        try:
            assert len(done.layers) == len(TARS)
            names = {f"layer-{n}{end}" for n in range(len(TARS)) for end in ("", ".tar", ".erofs")}
            assert {path.name for path in directory.iterdir()} == names
            content = Path(done.layers[0].mount_point) / "etc/motd"
            assert content.read_bytes() == b"hello" * 1000
        finally:
            unmount_layers(done.layers)
