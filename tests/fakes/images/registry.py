"""Registries for tests: small images, and a registry in memory; `hostile_registry` has a real one.

`FakeImage` is honest; a test takes its documents and blobs and tampers with one of them.
"""

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ccinit.errors import PeerError
from ccinit.formats.oci.image import MediaType
from ccinit.net.http import Headers, HttpLimits, HttpReply
from ccinit.pull.registry.client import RegistryLimits

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
REPOSITORY = "team/app"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


@dataclass(frozen=True, slots=True)
class FakeImage:
    """An image: its documents and blobs by digest; `digest` names `manifest`."""

    manifest: bytes
    config: bytes
    blobs: Mapping[str, bytes]
    content_type: str = MediaType.OCI_MANIFEST.value

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    def blob_names(self) -> list[str]:
        """Digests of the layers, bottom first."""
        return [layer["digest"] for layer in json.loads(self.manifest)["layers"]]


def make_image(
    tars: Sequence[bytes],
    *,
    pack: Callable[[bytes], bytes] = lambda tar: gzip.compress(tar, mtime=0),
    media_type: str = f"{LAYER}+gzip",
    config: Mapping[str, object] | None = None,
    diff_ids: Sequence[str] | None = None,
) -> FakeImage:
    """Return an honest image with the given layer tars, unless told otherwise."""
    layers = [pack(tar) for tar in tars]
    return join_image(
        [(descriptor(media_type, layer), layer) for layer in layers],
        list(diff_ids or map(digest_of, tars)),
        config or {"Cmd": ["/bin/true"]},
    )


def join_image(
    layers: Sequence[tuple[Mapping[str, object], bytes]],
    diff_ids: Sequence[str],
    config: Mapping[str, object],
) -> FakeImage:
    """Return an image of layers, each a descriptor and what it describes."""
    image_config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": dict(config),
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MediaType.OCI_MANIFEST.value,
            "config": descriptor(CONFIG, image_config),
            "layers": [described for described, _layer in layers],
        }
    ).encode()
    blobs = (image_config, *(layer for _described, layer in layers))
    return FakeImage(manifest, image_config, {digest_of(data): data for data in blobs})


def make_index(image: FakeImage, *, platforms: Sequence[tuple[str, str]]) -> bytes:
    """Return an index that names the image's manifest for each (os, architecture)."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MediaType.OCI_INDEX.value,
            "manifests": [
                {
                    **descriptor(MediaType.OCI_MANIFEST.value, image.manifest),
                    "platform": {"os": name, "architecture": architecture},
                }
                for name, architecture in platforms
            ],
        }
    ).encode()


def reply(status: int, body: bytes = b"", **headers: str) -> HttpReply:
    """Return a reply; `content_type` and the like name headers."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return HttpReply(status=status, headers=pairs, body=body, date=None)


@dataclass
class FakeHttp:
    """An `Http` in memory: scripted replies first, then what the image holds.

    A script entry is a reply, an error to raise, or a function of (sink, offset) that feeds bytes
    and raises.
    """

    image: FakeImage
    scripts: dict[str, list[object]] = field(default_factory=dict)
    seen: list[tuple[str, Headers]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def script(self, ending: str, *steps: object) -> None:
        """Let the next requests for URLs with this ending go so."""
        self.scripts[ending] = list(steps)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Headers,
        body: bytes = b"",
        limits: HttpLimits,  # noqa: ARG002
    ) -> HttpReply:
        assert method == ("POST" if body else "GET")
        self.bodies.append(body)
        self.seen.append((url, headers))
        step = self._next(url)
        if isinstance(step, HttpReply):
            return step
        if isinstance(step, Exception):
            raise step
        if url.endswith(f"/manifests/{self.image.digest}"):
            return reply(200, self.image.manifest, content_type=self.image.content_type)
        return reply(404)

    def stream_get(
        self,
        url: str,
        *,
        headers: Headers,
        sink: Callable[[bytes], None],
        limits: HttpLimits,  # noqa: ARG002
        offset: int,
    ) -> HttpReply:
        self.seen.append((url, (*headers, ("offset", str(offset)))))
        step = self._next(url)
        if isinstance(step, HttpReply):
            return step
        if isinstance(step, Exception):
            raise step
        if callable(step):
            step(sink, offset)
            return reply(206 if offset else 200)
        data = self.image.blobs.get(url.rpartition("/")[2])
        if data is None:
            return reply(404)
        sink(data[offset:])
        return reply(206 if offset else 200)

    def _next(self, url: str) -> object:
        for ending, steps in self.scripts.items():
            if url.partition("?")[0].endswith(ending) and steps:
                return steps.pop(0)
        return None


def broken_after(data: bytes, reason: str = "net.truncated") -> Callable[..., None]:
    """A script step: feed `data` from the offset on, then break."""

    def step(sink: Callable[[bytes], None], offset: int) -> None:
        sink(data[offset:])
        raise PeerError(reason, "broken by the test")

    return step


class Waits(list[float]):
    """Stands for `time.sleep`; remembers what it was asked for."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


FAST = RegistryLimits(total_seconds=600, attempts=3)
