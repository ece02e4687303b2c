"""Images pulled over TLS from real and hostile registries, indexed, mounted and overlaid.

The oracle for a whole image is umoci's unpacking of the same layout. Every refusal shows its reason
and that the same harness accepts the image without the fault.
"""

import base64
import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from ccinit.errors import CcinitError
from ccinit.pull.messages.fetch import PullLimits
from rootfs_builder.container_image.demo_image import build_demo_image
from rootfs_builder.container_image.location import Registries
from rootfs_builder.container_image.oci_layout import TAG, ContainerImage, ImageLayer, write_layout
from rootfs_builder.progress import Progress
from tests.fakes.images.hostile_registry import HostileRegistry, serve_hostile
from tests.fakes.images.registry import (
    LAYER,
    REPOSITORY,
    FakeImage,
    make_image,
    make_index,
)
from tests.fakes.images.tars import Entry, make_tar
from tests.integration.pull.native_pull import LIMITS, describe_tree, overlaid, pulled
from tests.integration.pull.real_registry import (
    PASSWORD,
    TOOLS,
    USER,
    Authority,
    push_image,
    running_registry,
)

# As long as a pull may take (`native_pull.LIMITS`), and a peer's unpacking besides.
pytestmark = pytest.mark.timeout(900)
PACKAGES = Path("build/cache/container")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> ContainerImage:
    layout = tmp_path_factory.mktemp("image") / "layout"
    return build_demo_image(TOOLS, PACKAGES.resolve(), layout, Progress(name="image"))


def unpack_with_umoci(image: ContainerImage, directory: Path) -> Path:
    """Unpack the image as umoci does; return the root file system.

    This umoci knows gzip only, so it gets the same tars in another packing.
    """
    directory.mkdir()
    blobs = image.layout / "blobs"

    def read(digest: str) -> bytes:
        return (blobs / digest.replace(":", "/")).read_bytes()

    manifest = json.loads(read(image.digest))
    config = json.loads(read(manifest["config"]["digest"]))
    layers = [
        ImageLayer(
            media_type=f"{LAYER}+gzip",
            blob=gzip.compress(unpack(read(layer["digest"])), 1),
            diff_id=diff_id,
        )
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
    ]
    write_layout(layers, config["config"], directory / "layout")
    TOOLS.run(
        ("umoci", "unpack", "--image", f"{directory / 'layout'}:{TAG}", directory / "bundle"),
        directories=(directory,),
    )
    return directory / "bundle" / "rootfs"


def unpack(blob: bytes) -> bytes:
    """Undo either compression, told by its magic."""
    if blob.startswith(b"\x1f\x8b"):
        return gzip.decompress(blob)
    if blob.startswith(b"\x28\xb5\x2f\xfd"):
        return zstandard.ZstdDecompressor().decompressobj().decompress(blob)
    return blob


def test_real_image_from_real_registry_gives_the_tree_that_umoci_unpacks(
    image: ContainerImage, authority: Authority, tmp_path: Path
) -> None:
    with running_registry(tmp_path / "registry", authority) as registry:
        reference = push_image(image, f"{registry.host}/demo/counter", authority.ca)
        with (
            pulled(reference, authority.ca_pem, tmp_path / "pull") as result,
            overlaid(result, tmp_path / "overlay") as merged,
        ):
            assert result.config.user == "service"
            assert len(result.layers) == 3
            ours = describe_tree(merged)
    theirs = describe_tree(unpack_with_umoci(image, tmp_path / "umoci"))
    assert ours.keys() == theirs.keys()
    assert {name: ours[name] for name in ours if ours[name] != theirs[name]} == {}
    assert "etc/debian_version" not in ours
    assert {path for path in ours if path.startswith("usr/share/lintian/")} == {
        "usr/share/lintian/NOTE"
    }
    assert ours["srv/counter"][:-1] == ours["srv/service.py"][:-1] != ()


PACKINGS = {
    "gzip": f"{LAYER}+gzip",
    "zstd": f"{LAYER}+zstd",
    "zstd:chunked": "io.github.containers.zstd-chunked.manifest-position",
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_layer_that_skopeo_packs_is_read(
    authority: Authority, tmp_path: Path, packing: str
) -> None:
    """The last one has tables of contents in frames that decompressors skip."""
    content = os.urandom(300_000)
    tar = make_tar(Entry("file", content), *(Entry(f"f{size}", b"x" * size) for size in range(9)))
    layer = ImageLayer(
        media_type=LAYER, blob=tar, diff_id=f"sha256:{hashlib.sha256(tar).hexdigest()}"
    )
    write_layout([layer], {}, tmp_path / "layout")
    # In a registry of its own, where skopeo finds no other packing of the layer to use instead.
    with running_registry(tmp_path / "registry", authority) as registry:
        registries = Registries(tools=TOOLS, ca=authority.ca)
        name = f"docker://{registry.host}/packed/app:{TAG}"
        options = ("--dest-compress-format", packing)
        registries.copy(f"oci:{tmp_path / 'layout'}:{TAG}", name, tmp_path, "dest-", *options)
        manifest = registries.inspect(name)
        assert PACKINGS[packing] in manifest.decode()
        reference = f"{registry.host}/packed/app@sha256:{hashlib.sha256(manifest).hexdigest()}"
        with (
            pulled(reference, authority.ca_pem, tmp_path / "pull") as result,
            overlaid(result, tmp_path / "overlay") as merged,
        ):
            assert (merged / "file").read_bytes() == content


def test_image_is_the_same_whenever_it_is_built(image: ContainerImage, tmp_path: Path) -> None:
    again = build_demo_image(TOOLS, PACKAGES.resolve(), tmp_path / "layout", Progress(name="again"))
    assert again.digest == image.digest


def auth_document(host: str, password: str) -> bytes:
    encoded = base64.b64encode(f"{USER}:{password}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": encoded}}}).encode()


def test_registry_with_password_takes_the_right_one_only(
    authority: Authority, tmp_path: Path
) -> None:
    small = make_image([make_tar(Entry("etc/motd", b"hello"))])
    layout = write_fake_layout(small, tmp_path / "layout")
    with running_registry(tmp_path / "registry", authority, with_password=True) as registry:
        reference = push_image(
            layout, f"{registry.host}/demo/small", authority.ca, f"{USER}:{PASSWORD}"
        )
        for number, document in enumerate((b"", auth_document(registry.host, "wrong"))):
            with pytest.raises(CcinitError) as refused:
                pull(reference, authority, tmp_path / f"refused-{number}", auth=document)
            assert refused.value.reason == "registry.unauthorized"
        pull(reference, authority, tmp_path / "taken", auth=auth_document(registry.host, PASSWORD))


def write_fake_layout(image: FakeImage, directory: Path) -> ContainerImage:
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for digest, data in {**image.blobs, image.digest: image.manifest}.items():
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
    entry = {
        "mediaType": image.content_type,
        "digest": image.digest,
        "size": len(image.manifest),
        "annotations": {"org.opencontainers.image.ref.name": TAG},
    }
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return ContainerImage(layout=directory, digest=image.digest, bytes=0)


def pull(
    reference: str,
    authority: Authority,
    directory: Path,
    auth: bytes = b"",
    limits: PullLimits = LIMITS,
) -> None:
    with pulled(reference, authority.ca_pem, directory, auth, limits):
        pass


HONEST = make_image([make_tar(Entry("data", b"content"), Entry("etc", None))])


def reference_at(registry: HostileRegistry) -> str:
    return f"localhost:{registry.port}/{REPOSITORY}@{registry.image.digest}"


def test_index_leads_to_the_manifest_for_this_platform(
    authority: Authority, tmp_path: Path
) -> None:
    index = make_index(
        HONEST, platforms=[("linux", "arm64"), ("linux", "amd64"), ("unknown", "unknown")]
    )
    pinned = FakeImage(
        index, HONEST.config, HONEST.blobs, "application/vnd.oci.image.index.v1+json"
    )
    documents = {HONEST.digest: (HONEST.manifest, HONEST.content_type)}
    with (
        serve_hostile(pinned, authority.server_context(), documents) as registry,
        pulled(reference_at(registry), authority.ca_pem, tmp_path / "pull") as image,
    ):
        assert str(image.manifest) == HONEST.digest


def bomb_zstd(tar: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(tar) + zstandard.ZstdCompressor().compress(
        bytes(200 << 20)
    )


BOMBS: dict[str, tuple[Callable[[bytes], bytes], str, int, str]] = {
    "gzip beyond the cap": (
        lambda tar: gzip.compress(tar + bytes(64 << 20)),
        "gzip",
        32 << 20,
        "pull.layer_bytes",
    ),
    "zstd beyond its ratio": (bomb_zstd, "zstd", 1 << 40, "pull.ratio"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_r56_bomb_is_refused_before_it_fills_the_disk(
    authority: Authority, tmp_path: Path, name: str
) -> None:
    pack, compression, tar_bytes, reason = BOMBS[name]
    tar = make_tar(Entry("file", b"x"))
    bomb = make_image([tar], pack=pack, media_type=f"{LAYER}+{compression}")
    plain = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[compression]
    honest = make_image([tar], pack=plain, media_type=f"{LAYER}+{compression}")
    limits = PullLimits(tar_bytes=tar_bytes, total_seconds=60)
    context = authority.server_context()
    with serve_hostile(bomb, context) as registry, pytest.raises(CcinitError) as refused:
        pull(reference_at(registry), authority, tmp_path / "refused", limits=limits)
    assert refused.value.reason == reason
    with serve_hostile(honest, context) as registry:
        pull(reference_at(registry), authority, tmp_path / "taken", limits=limits)


def test_r57_layer_that_is_not_its_diff_id_is_refused(authority: Authority, tmp_path: Path) -> None:
    tar = make_tar(Entry("file", b"x"))
    lying = make_image([tar], diff_ids=["sha256:" + "0" * 64])
    context = authority.server_context()
    with serve_hostile(lying, context) as registry, pytest.raises(CcinitError) as refused:
        pull(reference_at(registry), authority, tmp_path / "refused")
    assert refused.value.reason == "pull.diff_id"
    with serve_hostile(make_image([tar]), context) as registry:
        pull(reference_at(registry), authority, tmp_path / "taken")
