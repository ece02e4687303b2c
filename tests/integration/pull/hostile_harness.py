"""A guest that pulls from a hostile registry; its layer is large, so that faults hit its middle."""

import base64
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ccinit.errors import CcinitError
from ccinit.pull.messages.fetch import PullLimits, SignaturePolicy
from tests.fakes.images.hostile_registry import Fault, HostileRegistry
from tests.fakes.images.registry import (
    REPOSITORY,
    FakeImage,
    make_image,
)
from tests.fakes.images.tars import Entry, make_tar
from tests.faults.plugin import FaultSeen
from tests.integration.pull.native_pull import LIMITS, pulled
from tests.integration.pull.real_registry import Authority

CONTENT = random.Random(1).randbytes(1 << 20)  # noqa: S311  # does not compress
IMAGE = make_image([make_tar(Entry("data", CONTENT), Entry("etc", None))])
LAYER = IMAGE.blob_names()[0]
BLOB = IMAGE.blobs[LAYER]
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
Headers = Mapping[str, str | None]


@dataclass
class Harness:
    """One hostile registry, and a guest that pulls from it.

    Attributes:
        seen: is told why the guest refuses an image.
    """

    registry: HostileRegistry
    authority: Authority
    work: Path
    seen: FaultSeen
    pulls: int = 0

    def reference(self, image: FakeImage = IMAGE) -> str:
        return f"localhost:{self.registry.port}/{REPOSITORY}@{image.digest}"

    def pull(
        self,
        image: FakeImage = IMAGE,
        *,
        seconds: int = 60,
        auth: bytes = b"",
        policy: bytes = b"",
    ) -> str | None:
        """Pull; return the reason of a refusal, or None."""
        self.pulls += 1
        directory = self.work / str(self.pulls)
        limits = PullLimits(tar_bytes=LIMITS.tar_bytes, total_seconds=seconds)
        document = SignaturePolicy(document=policy, keys=()) if policy else None
        try:
            with pulled(
                self.reference(image),
                self.authority.ca_pem,
                directory,
                auth=auth,
                limits=limits,
                policy=document,
            ):
                return None
        except CcinitError as error:
            assert list(directory.iterdir()) == []
            self.seen.guest(error.reason)
            return error.reason

    def refusal(self, ending: str, fault: Fault, **how: object) -> str | None:
        """Pull with a fault, then without; return the reason of the first."""
        self.registry.faults[ending] = fault
        reason = self.pull(**how)  # type: ignore[arg-type]
        self.registry.faults.clear()
        assert self.pull() is None
        return reason

    def serve(self, image: FakeImage) -> FakeImage:
        """Serve another image, too."""
        self.registry.documents[image.digest] = (image.manifest, image.content_type)
        self.registry.image = FakeImage(
            IMAGE.manifest, IMAGE.config, {**self.registry.image.blobs, **image.blobs}
        )
        return image

    def password(self) -> bytes:
        encoded = base64.b64encode(b"owner:secret").decode()
        return json.dumps(
            {"auths": {f"localhost:{self.registry.port}": {"auth": encoded}}}
        ).encode()
