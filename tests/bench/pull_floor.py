"""The floor of a pull: one process with two threads that does only the unavoidable.

That is the download from the same registry over TLS, SHA-256 of the blob, decompression, and
SHA-256 of the tar. Nothing is written, and the tar is not parsed.
"""

import hashlib
import http.client
import json
import queue
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass

import zstandard
from isal import isal_zlib

from tests.bench.measurement import BenchError

_GZIP_BITS = 31
_CHUNK_BYTES = 1 << 20
_QUEUED = 8
Step = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorImage:
    """Where an image is, in documents that nobody tampers with here."""

    port: int
    repository: str
    digest: str
    ca: str


def pull_to_nowhere(image: FloorImage) -> None:
    """Do it once.

    Raises:
        BenchError: a digest is not the right one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # takes the roots that a guest takes
    context.load_verify_locations(image.ca)
    connection = http.client.HTTPSConnection("127.0.0.1", image.port, context=context)
    manifest = json.loads(_get(connection, image, f"manifests/{image.digest}").read())
    config = json.loads(_get(connection, image, f"blobs/{manifest['config']['digest']}").read())
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        blob, tar = _pass(connection, image, layer)
        if blob != layer["digest"] or tar != diff_id:
            raise BenchError(f"floor: a layer is {blob} and {tar}")
    connection.close()


def _get(
    connection: http.client.HTTPSConnection, image: FloorImage, path: str
) -> http.client.HTTPResponse:
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    connection.request("GET", f"/v2/{image.repository}/{path}", headers=accept)
    return connection.getresponse()


def _pass(
    connection: http.client.HTTPSConnection, image: FloorImage, layer: dict[str, str]
) -> tuple[str, str]:
    """Return the digests of a layer's blob and tar."""
    blob, tar = hashlib.sha256(), hashlib.sha256()
    pieces: queue.Queue[bytes] = queue.Queue(_QUEUED)

    def hash_pieces() -> None:
        while piece := pieces.get():
            tar.update(piece)

    hasher = threading.Thread(target=hash_pieces)
    hasher.start()
    try:
        decompress = _decompressor(layer["mediaType"])
        reply = _get(connection, image, f"blobs/{layer['digest']}")
        while chunk := reply.read(_CHUNK_BYTES):
            blob.update(chunk)
            if piece := decompress(chunk):
                pieces.put(piece)
    finally:
        pieces.put(b"")
        hasher.join()
    return f"sha256:{blob.hexdigest()}", f"sha256:{tar.hexdigest()}"


def _decompressor(media_type: str) -> Step:
    if media_type.endswith("+zstd"):
        return zstandard.ZstdDecompressor().decompressobj().decompress
    return isal_zlib.decompressobj(wbits=_GZIP_BITS).decompress
