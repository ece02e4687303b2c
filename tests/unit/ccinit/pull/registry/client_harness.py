"""A registry's client over scripted replies, and a blob that keeps what it is fed."""

from collections.abc import Callable

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.oci.credentials import Credential
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.pull.registry.client import Registry
from tests.fakes.images.registry import FAST, FakeHttp, Waits, make_image

IMAGE = make_image([b"tar"])
HOST = "registry.docker.example"
REFERENCE = parse_image_reference(f"{HOST}/team/app@{IMAGE.digest}")
LAYER = parse_digest(IMAGE.blob_names()[0])
BLOB = IMAGE.blobs[str(LAYER)]


class Blob:
    """Keeps what it is fed."""

    def __init__(self) -> None:
        self.data = b""
        self.restarts = 0

    @property
    def received_bytes(self) -> int:
        return len(self.data)

    @property
    def missing_bytes(self) -> int:
        return len(BLOB) - len(self.data)

    def feed(self, data: bytes) -> None:
        self.data += data

    def restart(self) -> None:
        self.data = b""
        self.restarts += 1


class Harness:
    def __init__(self, credential: str = "") -> None:
        self.http = FakeHttp(IMAGE)
        self.waits = Waits()
        known = Credential(user_password=credential) if credential else None
        self.registry = Registry(self.http, REFERENCE, known, FAST, self.waits)
        self.blob = Blob()

    def download(self) -> bytes:
        self.registry.blob(LAYER, self.blob)
        return self.blob.data

    def refusal(self, action: Callable[[], object]) -> str:
        with pytest.raises(CcinitError) as refused:
            action()
        return refused.value.reason

    def authorizations(self) -> list[str | None]:
        return [dict(headers).get("authorization") for _url, headers in self.http.seen]
