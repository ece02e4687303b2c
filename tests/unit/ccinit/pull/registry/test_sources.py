"""Which of an image's sources is believed, and what each of them is told."""

import base64
import json
import ssl
from typing import Any, Self

import pytest

from ccinit.errors import PeerError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.oci.reference import MAX_NAME_BYTES
from ccinit.formats.oci.registries import Access, Location, RegistryRule
from ccinit.net.stream import dial_tcp
from ccinit.pull.messages.fetch import AUTH_PIPE, PullLimits, PullRequest, SourceFailed, key_pipe
from ccinit.pull.registry import sources
from ccinit.pull.registry.client import RegistryLimits
from ccinit.pull.registry.sources import open_source
from ccinit.secret import Secret
from ccinit.values import replace
from tests.fakes.images.registry import FakeHttp, digest_of, make_image, make_index, reply
from tests.fakes.network.tls_server import make_authority

NO_CHECK_TIME = 0x200000
IMAGE, OTHER = make_image([b"tar"]), make_image([b"another"])
ROOT = make_authority()
AUTH = json.dumps(
    {"auths": {"two.example": {"auth": base64.b64encode(b"user:password").decode()}}}
).encode()


def location(text: str) -> Location:
    return Location(text=text, access=Access(ca_pem="", certificate_pem="", key=None, proxy=""))


REQUEST = PullRequest(
    reference=f"r.example/app@{IMAGE.digest}",
    ca_pem=ROOT.pem,
    limits=PullLimits(tar_bytes=1 << 20, total_seconds=60),
    encryption=ImageEncryption.ALLOWED,
    has_auth=True,
    registry=RegistryRule(
        prefix="r.example",
        location=location(""),
        blocked=False,
        mirrors=(location("one.example"), location("two.example")),
    ),
)


class Client(FakeHttp):
    """One source's client, which may be closed."""

    is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.is_closed = True


class World:
    """Clients of the sources in the order in which they are made, and the child's channel."""

    def __init__(self) -> None:
        self.clients = [Client(IMAGE), Client(IMAGE), Client(IMAGE)]
        self.contexts: list[ssl.SSLContext] = []
        self.failed: list[SourceFailed] = []

    def client(self, context: ssl.SSLContext, *, dial: object) -> Client:
        assert dial is dial_tcp
        self.contexts.append(context)
        return self.clients[len(self.contexts) - 1]

    def notify(self, notice: Any, /) -> None:
        self.failed.append(notice)

    def read_secret(self, name: str, /) -> Secret:
        assert name == AUTH_PIPE
        return Secret(AUTH)

    def hosts(self) -> list[set[str]]:
        """Which hosts each client was sent to."""
        return [{url.split("/")[2] for url, _ in one.seen} for one in self.clients]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(sources, "HttpClient", made.client)
    return made


def test_first_mirror_that_has_the_manifest_is_the_source(world: World) -> None:
    with open_source(REQUEST, world) as registry:
        assert not world.clients[0].is_closed
        assert 50 < registry._limits.total_seconds <= REQUEST.limits.total_seconds
    assert world.hosts() == [{"one.example"}, set(), set()]
    assert world.failed == []
    assert world.clients[0].is_closed


def test_image_of_docker_hub_may_have_the_longest_name(world: World) -> None:
    name = f"docker.io/team/{'a' * 240}"
    assert len(name) == MAX_NAME_BYTES
    request = replace(REQUEST, reference=f"{name}@{IMAGE.digest}", registry=None)
    with open_source(request, world) as registry:
        registry.manifest(parse_digest(IMAGE.digest))
    assert world.hosts() == [{"registry-1.docker.io"}, set(), set()]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (reply(200, OTHER.manifest, content_type=OTHER.content_type), "digest"),
        (reply(200, IMAGE.manifest, content_type="text/plain"), "manifest.media_type"),
        (reply(404), "registry."),
        (PeerError("net.truncated", "gone"), "net.truncated"),
    ],
    ids=["another manifest", "another type", "none", "broken"],
)
def test_mirror_that_deceives_or_fails_is_closed_told_of_and_passed_over(
    world: World, step: object, reason: str
) -> None:
    world.clients[0].script(f"/manifests/{IMAGE.digest}", step)
    with open_source(REQUEST, world):
        assert [one.is_closed for one in world.clients] == [True, False, False]
    assert world.hosts() == [{"one.example"}, {"two.example"}, set()]
    (failed,) = world.failed
    assert failed.reference.startswith("one.example/")
    assert reason in failed.error


INDEX = make_index(IMAGE, platforms=[("linux", "arm64"), ("linux", "amd64")])


@pytest.mark.parametrize("has_all", [True, False])
def test_mirror_that_has_the_index_without_its_manifest_is_passed_over(
    world: World, *, has_all: bool
) -> None:
    pinned = digest_of(INDEX)
    for one in world.clients:
        one.script(f"/manifests/{pinned}", reply(200, INDEX))
    if not has_all:
        world.clients[0].script(f"/manifests/{IMAGE.digest}", reply(404))
    with open_source(replace(REQUEST, reference=f"r.example/app@{pinned}"), world):
        assert world.clients[0].is_closed is not has_all
    told = [failed.error.partition(":")[0] for failed in world.failed]
    assert told == ([] if has_all else ["registry.not_found"])


@pytest.mark.parametrize(("total_seconds", "shares"), [(60, [20, 30]), (1800, [30, 30])])
def test_mirror_has_no_more_than_its_share_of_the_time(
    world: World, monkeypatch: pytest.MonkeyPatch, total_seconds: int, shares: list[float]
) -> None:
    given: list[float] = []

    def late(_http: object, _reference: object, _known: object, limits: RegistryLimits) -> Any:
        given.append(limits.total_seconds)
        raise PeerError("net.timeout", "silent")

    monkeypatch.setattr(sources, "boottime", lambda: 1000.0)
    monkeypatch.setattr(sources, "Registry", late)
    limits = PullLimits(tar_bytes=1 << 20, total_seconds=total_seconds)
    with pytest.raises(PeerError), open_source(replace(REQUEST, limits=limits), world):
        pass
    assert given == [*shares, total_seconds]


def test_source_learns_only_the_credentials_under_its_own_name(world: World) -> None:
    for mirror in world.clients[:2]:
        challenge = reply(401, www_authenticate='Basic realm="images"')
        mirror.script(f"/manifests/{IMAGE.digest}", challenge)
    with open_source(REQUEST, world):
        pass
    told = ["authorization" in str(headers) for one in world.clients for _, headers in one.seen]
    assert told == [False, False, True]


def test_registry_itself_is_asked_last_and_every_source_is_held_against_the_clock(
    world: World,
) -> None:
    for mirror in world.clients[:2]:
        mirror.script(f"/manifests/{IMAGE.digest}", reply(404))
    with open_source(REQUEST, world):
        assert world.hosts()[2] == set()  # nobody has to be asked twice what the pull asks anyway
        assert [one.is_closed for one in world.clients] == [True, True, False]
    assert len(world.failed) == 2
    assert [one.verify_flags & NO_CHECK_TIME for one in world.contexts] == [0, 0, 0]


def test_failure_that_is_no_sources_ends_the_pull_and_closes_the_client(world: World) -> None:
    world.clients[0].script(f"/manifests/{IMAGE.digest}", MemoryError())
    with pytest.raises(MemoryError), open_source(REQUEST, world):
        pass
    assert world.clients[0].is_closed
    assert world.failed == []


def test_source_has_the_clients_key_and_the_proxy_that_are_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[bytes, str]] = []
    dialled: list[object] = []

    def present(_context: ssl.SSLContext, pem: bytes, reason: str) -> None:
        shown.append((pem, reason))

    def client(_context: ssl.SSLContext, *, dial: object) -> Client:
        dialled.append(dial)
        return world.clients[0]

    monkeypatch.setattr(sources, "present_certificate", present)
    monkeypatch.setattr(sources, "dial_through", lambda proxy: f"through {proxy}")
    monkeypatch.setattr(sources, "HttpClient", client)
    monkeypatch.setattr(world, "read_secret", {key_pipe(0): Secret(b"key")}.__getitem__)
    key = ResourceUri("ccinit", "demo", "file-client-key")
    own = Access(ca_pem="", certificate_pem="certificate", key=key, proxy="proxy:3128")
    rule = RegistryRule(
        prefix="r.example",
        location=Location(text="r.example", access=own),
        blocked=False,
        mirrors=(),
    )
    with open_source(replace(REQUEST, has_auth=False, registry=rule), world):
        assert shown == [(b"certificate\nkey", "net.client_certificate")]
        assert dialled == ["through proxy:3128"]
