"""Which key goes to which child, and what is fetched from the KBS for an image."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages.kbs import Wanted
from ccinit.agent.phases import image_keys
from ccinit.agent.phases.attestation import Attested, plan_resources
from ccinit.agent.phases.configuration import Configured
from ccinit.agent.phases.image_keys import LayerKeys, open_layer_keys
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.processes.roles import Role
from ccinit.errors import CcinitError
from ccinit.formats.initdata.guest_config import OwnerConfig
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import KbsUri, ResourceUri
from ccinit.formats.oci.compression import Compression
from ccinit.formats.oci.layer_encryption import KeyWrap, LayerKey, WrapScheme
from ccinit.formats.pod.manifest import Image, PodManifest, parse_pod_manifest
from ccinit.pull.messages.layers import (
    EncryptedLayer,
    InspectedImage,
    UnwrappedKey,
    UnwrapReply,
    UnwrapRequest,
)
from ccinit.secret import Secret
from tests.fakes.documents.guest import FULL_POD
from tests.fakes.machine.no_waiting import finish

LISTED, NAMED, OTHER = (ResourceUri("a", "image-key", tag) for tag in ("listed", "named", "other"))
PRIVATE, KEK = b"-----BEGIN PRIVATE KEY-----" + bytes(100), b"K" * 32
JWE = KeyWrap(scheme=WrapScheme.JWE, data=b"jwe", kek=None)


def packet(uri: ResourceUri) -> KeyWrap:
    return KeyWrap(scheme=WrapScheme.PROVIDER, data=b"packet", kek=uri)


def layer_key(position: int) -> LayerKey:
    return LayerKey(key=bytes([position]) * 32, nonce=bytes(16))


def inspected(*layers: tuple[KeyWrap, ...]) -> InspectedImage:
    return InspectedImage(
        layers=(Compression.GZIP,) * len(layers),
        diff_ids=(),
        encrypted=tuple(
            EncryptedLayer(
                position=position,
                compression=Compression.GZIP,
                hmac=bytes(32),
                nonce=b"",
                wraps=wraps,
            )
            for position, wraps in enumerate(layers)
        ),
    )


@dataclass
class Children:
    """Play `unwrap`: every wrap of a known key is opened."""

    runs: list[tuple[bytes, UnwrapRequest]] = field(default_factory=list)
    positions: tuple[int, ...] | None = None

    async def run(
        self,
        role: Role,
        request: UnwrapRequest,
        _reply: type[UnwrapReply],
        *,
        seconds: float,
        secrets: dict[str, Secret],
    ) -> UnwrapReply:
        assert role is Role.UNWRAP
        assert seconds > 0
        (secret,) = secrets.values()
        self.runs.append((secret.reveal(), request))
        positions = self.positions or tuple(one.position for one in request.wrapped)
        return UnwrapReply(
            keys=tuple(UnwrappedKey(position=one, key=layer_key(one)) for one in positions)
        )


@dataclass
class Kbs:
    """Play the KBS: what was fetched, and what was given."""

    content: dict[KbsUri, bytes]
    asked: list[tuple[Wanted, ...]] = field(default_factory=list)
    given: dict[KbsUri, Grant] = field(default_factory=dict)

    async def fetch(
        self, _guest: Guest, _configured: Configured, wanted: tuple[Wanted, ...]
    ) -> dict[KbsUri, Grant]:
        self.asked.append(wanted)
        self.given = {one.uri: grant(self.content[one.uri]) for one in wanted}
        return self.given


def grant(content: bytes) -> Grant:
    return Grant(secret=Secret(content), create=False)


POD = parse_pod_manifest(FULL_POD)
OWNER = OwnerConfig(port=0, client_ca_pem="")


def make_image(*keys: ResourceUri) -> Image:
    return Image(name="i", reference="", policy=None, auth=None, ca_pem="", keys=keys)


class Harness:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, **listed: bytes) -> None:
        self.children = Children()
        self.kbs = Kbs({NAMED: KEK, OTHER: b"O" * 32})
        self.listed = {ResourceUri("a", "image-key", tag): data for tag, data in listed.items()}
        monkeypatch.setattr(image_keys, "fetch_grants", self.kbs.fetch)

    def open(self, image: InspectedImage) -> tuple[LayerKey, ...]:
        coroutine = open_layer_keys(
            cast("Guest", SimpleNamespace(children=self.children)),
            cast("Configured", SimpleNamespace(manifest=POD, config=SimpleNamespace(owner=OWNER))),
            Attested(grants={uri: grant(data) for uri, data in self.listed.items()}),
            make_image(*self.listed),
            image,
        )
        return finish(coroutine)


def refusal(harness: Harness, image: InspectedImage) -> str:
    with pytest.raises(CcinitError) as refused:
        harness.open(image)
    return refused.value.reason


def test_listed_private_key_opens_without_another_handshake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = Harness(monkeypatch, listed=PRIVATE)
    image = inspected((JWE, packet(NAMED)), (JWE,))
    assert harness.open(image) == (layer_key(0), layer_key(1))
    assert harness.kbs.asked == []
    ((secret, request),) = harness.children.runs
    assert secret == PRIVATE
    assert [one.wrap for one in request.wrapped] == [JWE, JWE]


def test_named_keys_are_fetched_once_each_and_go_alone_to_their_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = Harness(monkeypatch)
    image = inspected((packet(NAMED),), (packet(OTHER), packet(NAMED)), (packet(NAMED),))
    assert harness.open(image) == tuple(map(layer_key, range(3)))
    assert harness.kbs.asked == [
        (
            Wanted(uri=NAMED, kind=EnvelopeKind.IMAGE_KEY),
            Wanted(uri=OTHER, kind=EnvelopeKind.IMAGE_KEY),
        )
    ]
    assert [secret for secret, _request in harness.children.runs] == [KEK]
    assert all(len(one.secret) == 0 for one in harness.kbs.given.values())


def test_listed_packet_key_is_used_for_its_own_packets_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = Harness(monkeypatch, named=KEK)
    assert harness.open(inspected((packet(OTHER), packet(NAMED), JWE))) == (layer_key(0),)
    ((_secret, request),) = harness.children.runs
    assert [one.wrap for one in request.wrapped] == [packet(NAMED)]
    assert harness.kbs.asked == []


def test_layer_that_no_key_opens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch, listed=PRIVATE)
    harness.children.positions = (0,)
    assert refusal(harness, inspected((JWE,), (JWE,))) == "pull.layer_key"
    assert refusal(Harness(monkeypatch), inspected((JWE,))) == "pull.layer_key"


def test_r60_layers_that_name_too_many_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch)
    many = [(packet(ResourceUri("a", "b", str(number))),) for number in range(17)]
    assert refusal(harness, inspected(*many)) == "pull.layer_key"
    assert harness.kbs.asked == []
    assert len(image_keys.plan_named_keys(inspected(*many[:16]), {})) == 16


@pytest.mark.parametrize("name", ["volume-key-data", "log-psk", "tls-identity", "file-token"])
def test_layer_cannot_name_what_the_pod_uses_as_something_else(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    harness = Harness(monkeypatch)
    named, listed = (ResourceUri("ccinit", "demo", tag) for tag in (name, "image-key"))
    harness.kbs.content = {named: KEK, listed: KEK}
    assert refusal(harness, inspected((packet(named),))) == "pull.layer_key"
    assert harness.kbs.asked == []
    assert harness.open(inspected((packet(listed),))) == (layer_key(0),)


def test_key_that_nobody_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch, listed=PRIVATE)
    harness.children.positions = (7,)
    assert refusal(harness, inspected((JWE,))) == "child.protocol"


def test_keys_that_were_given_are_wiped_if_one_does_not_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = Harness(monkeypatch)
    harness.children.positions = (7,)
    assert refusal(harness, inspected((packet(NAMED),))) == "child.protocol"
    assert [len(one.secret) for one in harness.kbs.given.values()] == [0]


def test_listed_keys_are_fetched_with_everything_else() -> None:
    image = make_image(LISTED)
    manifest = cast(
        "PodManifest",
        SimpleNamespace(name="p", volumes=(), images=(image,), registries=(), secrets=()),
    )
    assert Wanted(uri=LISTED, kind=EnvelopeKind.IMAGE_KEY) in plan_resources(manifest)


def test_what_is_named_leaves_out_what_is_open() -> None:
    opened: LayerKeys = {0: layer_key(0)}
    image = inspected((packet(OTHER),), (packet(NAMED),))
    assert [one.uri for one in image_keys.plan_named_keys(image, opened)] == [NAMED]


def test_layer_for_several_parties_names_the_first_key_that_it_names() -> None:
    image = inspected((JWE, packet(NAMED), packet(OTHER)), (JWE,))
    assert [one.uri for one in image_keys.plan_named_keys(image, {})] == [NAMED]
