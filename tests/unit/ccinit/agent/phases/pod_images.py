"""PULL with a pod of two images, whose children are played."""

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from ccinit.agent.guest import PhaseTime
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.images import Pulled, pull
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.phases.storage import Unlocked
from ccinit.agent.teardown import Teardown
from ccinit.errors import CcinitError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri
from ccinit.formats.pod.manifest import Image
from ccinit.formats.pod.volume import Volume
from ccinit.kernel.event_loop import Event, EventLoop, sleep
from ccinit.pull.messages.fetch import (
    AcceptedImage,
    PolicyKey,
    PulledBlobs,
    PullRequest,
    SignaturePolicy,
    SignatureRequest,
)
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.reception import Begin
from ccinit.pull.verdict import Decide
from ccinit.secret import Secret
from tests.fakes.images.registry import make_image
from tests.fakes.images.tars import Entry, make_tar
from tests.unit.ccinit.pull.image_children import POLICY, REQUEST, Children

if TYPE_CHECKING:
    from ccinit.formats.oci.registries import RegistryRule
    from ccinit.formats.tcg.aael import AaelEvent

TARS: Mapping[str, list[bytes]] = {
    name: [make_tar(Entry(f"{name}-{number}", b"x")) for number in range(2)]
    for name in ("web", "other")
}
ENDING_SECONDS = 0.05
AUTH = ResourceUri("ccinit", "shop", "file-auth")
KEYS = (PolicyKey(resource="kbs:///ccinit/demo/image-key", data=b"a public key"),)


class Reception:
    """Notes what the registry's child is given."""

    def __init__(self) -> None:
        self.secrets: Mapping[str, Secret] = {}

    def give(self, secrets: Mapping[str, Secret]) -> None:
        self.secrets = secrets


class Pod:
    """A manifest with two images, whose children are played.

    `other` waits until the children of `web` are being ended, which takes a while, and fails then
    if `failure` is set.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.is_ending = Event()
        self.failure: CcinitError | None = None
        self.events: list[str] = []
        self.teardown = Teardown()
        self.phase_time = PhaseTime()
        self.images = {name: make_image(tars) for name, tars in TARS.items()}
        self.auth: Secret | None = None
        self.started: list[tuple[str, ...]] = []
        self.received: dict[str, Reception] = {}
        self.policy: ResourceUri | None = None  # that of `web`
        self.judged: dict[str, SignaturePolicy] = {}
        self.registries: tuple[RegistryRule, ...] = ()
        self.in_memory = False
        self.at_once: list[int] = []
        self.pulling = 0
        self.forms: set[LayerForm] = set()
        self.open_keys: list[Any] = []
        self.noted: list[AaelEvent] = []
        self.image_bytes: dict[str, int] = {}
        self.requests: dict[str, PullRequest] = {}

    def children(  # as ImageChildren
        self,
        _guest: object,
        image: Image,
        _directory: str,
        reception: "Reception",
        open_keys: Any,
        *,
        seconds: int,
        form: LayerForm,
    ) -> "Played":
        assert seconds == 60  # of the limits
        self.received[image.name] = reception
        self.open_keys.append(open_keys)
        self.forms.add(form)
        return Played(self, image.name)

    def reception(  # as prepare_reception
        self, _children: object, image: Image, credentials: Collection[str]
    ) -> AbstractAsyncContextManager["Reception"]:
        self.started.append((image.name, *credentials))
        return nullcontext(Reception())

    def world(self, *volumes: Volume) -> tuple[Any, Any, Attested]:
        """Return as much of guest, configuration and grants as PULL looks at."""
        images = [
            Image(
                name=name,
                reference=f"r.example/a@{image.digest}",
                policy=self.policy if name == "web" else None,
                auth=AUTH if self.auth is not None else None,
                ca_pem="",
            )
            for name, image in self.images.items()
        ]
        guest: Any = SimpleNamespace(
            children=None,
            teardown=self.teardown,
            event=self.events.append,
            figures=SimpleNamespace(image_bytes=self.image_bytes),
            phase_time=self.phase_time,
        )
        limits = SimpleNamespace(image_bytes=REQUEST.limits.tar_bytes, pull_seconds=60)
        configured: Any = SimpleNamespace(
            config=SimpleNamespace(limits=limits),
            manifest=SimpleNamespace(
                images=images, registries=self.registries, secrets=(), volumes=volumes
            ),
            measurement=SimpleNamespace(note=self.noted.append),
        )
        grants: dict[KbsUri, Grant] = {}
        if self.auth is not None:
            grants[AUTH] = Grant(secret=self.auth, create=False)
        if self.policy is not None:
            grants[self.policy] = Grant(secret=Secret(POLICY.document), create=False)
        return guest, configured, Attested(grants=grants, policy_keys=KEYS)

    def pull(self, waiting: Any = None) -> Pulled:
        unlocked = Unlocked(volumes={}, store=str(self.store), in_memory=self.in_memory)
        return EventLoop().run(pull(*self.world(), unlocked, waiting))

    def tear_down(self) -> tuple[tuple[str, CcinitError], ...]:
        return EventLoop().run(self.teardown.run())


class Played(Children):
    def __init__(self, pod: Pod, name: str) -> None:
        super().__init__(pod.store / f"image-{name}")
        self.pod, self.name = pod, name
        self.tars = TARS[name]
        self.find(pod.images[name])
        self.form = LayerForm.COMPRESSED if pod.in_memory else LayerForm.INDEX

    async def __aenter__(self) -> Self:
        self.pod.pulling += 1
        self.pod.at_once.append(self.pod.pulling)
        return self

    async def __aexit__(self, *_details: object) -> None:
        self.pod.pulling -= 1
        if self.name == "web":
            self.pod.is_ending.set()
            await sleep(ENDING_SECONDS)

    async def fetch(self, request: PullRequest, decide: Decide, begin: Begin) -> PulledBlobs:
        self.pod.requests[self.name] = request
        self.asks = self.found[0].documents if request.with_signatures else None
        if self.name == "other":
            await self.pod.is_ending.wait()
            if self.pod.failure is not None:
                raise self.pod.failure
        return await super().fetch(request, decide, begin)

    async def judge(self, request: SignatureRequest) -> AcceptedImage:
        self.pod.judged[self.name] = request.policy
        digests = tuple(sha256_digest(document) for document in request.found.documents)
        return AcceptedImage(documents=digests, reasons=())
