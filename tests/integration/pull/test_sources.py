"""Mirrors, client certificates and proxies, with real registries on loopback."""

import json
import os
import socket
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccinit.agent.processes.children import Children
from ccinit.agent.processes.conversation import Answer
from ccinit.agent.processes.roles import Role
from ccinit.errors import CcinitError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.formats.oci.registries import RegistryRule, read_registry
from ccinit.kernel.event_loop import EventLoop
from ccinit.pull.messages.fetch import (
    AUTH_PIPE,
    AcceptedImage,
    Downloaded,
    FetchBegun,
    FoundImage,
    FoundSignatures,
    PulledBlobs,
    PullRequest,
    SendLayers,
    SignaturePolicy,
    SourceFailed,
    key_pipe,
)
from ccinit.pull.registry.sources import open_source
from ccinit.secret import Secret
from tests.fakes.images import signatures as fake
from tests.fakes.images.hostile_registry import Fault, serve_hostile
from tests.fakes.images.layer_pipes import LayerPipe
from tests.fakes.images.registry import make_image
from tests.fakes.images.tars import Entry, make_tar
from tests.fakes.network.connect_proxy import running_proxy
from tests.fakes.network.tls_server import TlsServer, read_head
from tests.integration.pull.native_pull import LIMITS, Channel, pulled
from tests.integration.pull.real_registry import (
    Authority,
    Registry,
    make_client,
    running_registry,
)
from tests.integration.pull.signers import Client

IMAGE = make_image([make_tar(Entry("etc/motd", b"hello"))])
NO_NAME = {"net.dns", "net.resolver"}  # what becomes of it is up to this machine's resolver
PRIMARY = f"registry.invalid/team/app@{IMAGE.digest}"
"""A name that does not resolve: whatever is pulled came from somewhere else."""


@pytest.fixture(scope="module")
def mirror(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("mirror"), authority) as registry:
        Client(registry, "cache/team/app").push(IMAGE)
        yield registry


def rule(text: str) -> RegistryRule:
    with Fields(tomllib.loads(text), "pod.registry") as fields:
        return read_registry(fields)


def mirrors(*places: str, more: str = "") -> RegistryRule:
    tables = "".join(f'[[mirror]]\nlocation = "{place}"\n' for place in places)
    return rule(f'prefix = "registry.invalid"\n{more}{tables}')


def reason(
    authority: Authority,
    directory: Path,
    registry: RegistryRule | None,
    reference: str = PRIMARY,
    channel: Channel | None = None,
    policy: bytes = b"",
) -> str | None:
    """Pull; return the reason of a refusal, or None."""
    document = SignaturePolicy(document=policy, keys=()) if policy else None
    channel = channel or Channel(str(directory))
    try:
        with pulled(
            reference,
            authority.ca_pem,
            directory,
            policy=document,
            registry=registry,
            channel=channel,
        ):
            assert not (directory / "client.pem").exists()
            return None
    except CcinitError as error:
        assert list(directory.iterdir()) == []
        return error.reason


def test_image_comes_from_its_mirror(
    authority: Authority, mirror: Registry, tmp_path: Path
) -> None:
    channel = Channel(str(tmp_path / "taken"))
    rewritten = mirrors(f"{mirror.host}/cache")
    assert reason(authority, tmp_path / "taken", rewritten, channel=channel) is None
    assert not any(isinstance(notice, SourceFailed) for notice in channel.notices)
    assert reason(authority, tmp_path / "primary", None) in NO_NAME


def test_mirror_that_was_asked_for_the_manifest_keeps_its_connection(authority: Authority) -> None:
    def handle(connection: socket.socket) -> None:
        length = b"Content-Length: %d" % len(IMAGE.manifest)
        while read_head(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n" + IMAGE.manifest)

    with TlsServer(authority.server_context(), handle) as server:
        request = PullRequest(
            reference=PRIMARY,
            ca_pem=authority.ca_pem,
            limits=LIMITS,
            encryption=ImageEncryption.NONE,
            with_signatures=False,
            registry=mirrors(server.url().removeprefix("https://").rstrip("/")),
        )
        with open_source(request, Channel("")) as registry:
            assert registry.manifest(parse_image_reference(PRIMARY).digest).body == IMAGE.manifest
        assert server.connections == 1


def test_location_is_asked_instead_of_the_registry(
    authority: Authority, mirror: Registry, tmp_path: Path
) -> None:
    moved = rule(f'prefix = "registry.invalid"\nlocation = "{mirror.host}/cache"')
    assert reason(authority, tmp_path / "taken", moved) is None


def test_mirror_that_does_not_have_it_is_passed_over(
    authority: Authority, mirror: Registry, tmp_path: Path
) -> None:
    other = make_image([make_tar(Entry("etc/motd", b"another"))])
    context = authority.server_context()
    with serve_hostile(IMAGE, context) as liar, serve_hostile(IMAGE, context) as files:
        liar.faults[IMAGE.digest] = Fault(body=other.manifest)
        files.faults[IMAGE.digest] = Fault(headers={"Content-Type": "application/octet-stream"})
        bad = (f"{mirror.host}/empty", f"localhost:{liar.port}", f"localhost:{files.port}")
        places = (*bad, f"{mirror.host}/cache")
        channel = Channel(str(tmp_path / "taken"))
        assert reason(authority, tmp_path / "taken", mirrors(*places), channel=channel) is None
    failed = [notice for notice in channel.notices if isinstance(notice, SourceFailed)]
    assert [notice.error.partition(":")[0] for notice in failed] == [
        "registry.not_found",
        "pull.manifest_digest",
        "manifest.media_type",
    ]
    only_bad = mirrors(f"{mirror.host}/empty")
    assert reason(authority, tmp_path / "none", only_bad) in NO_NAME  # what the registry said


def test_mirror_learns_only_the_credentials_under_its_own_name(
    authority: Authority, tmp_path: Path
) -> None:
    document = json.dumps({"auths": {"registry.invalid": {"auth": fake.b64(b"me:secret")}}})
    with serve_hostile(IMAGE, authority.server_context()) as curious:
        curious.faults[IMAGE.digest] = Fault(
            status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}
        )
        with (
            pytest.raises(CcinitError) as refused,
            pulled(
                PRIMARY,
                authority.ca_pem,
                tmp_path / "pull",
                auth=document.encode(),
                registry=mirrors(f"localhost:{curious.port}"),
            ),
        ):
            pass
        assert refused.value.reason in NO_NAME  # the registry itself has no name
        assert len(curious.requests) == 1
        assert all("authorization" not in headers for _path, headers in curious.requests)


def test_policy_is_that_of_the_owners_name_wherever_the_bytes_come_from(
    authority: Authority, mirror: Registry, tmp_path: Path
) -> None:
    accept, reject = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]

    def policy(**scopes: object) -> bytes:
        docker = {name.replace("_", "."): one for name, one in scopes.items()}
        return json.dumps({"default": reject, "transports": {"docker": docker}}).encode()

    rewritten = mirrors(f"{mirror.host}/cache")
    theirs = policy(localhost=accept, **{mirror.host: accept})
    assert reason(authority, tmp_path / "theirs", rewritten, policy=theirs) == "policy.reject"
    ours = policy(registry_invalid=accept, **{mirror.host: reject})
    assert reason(authority, tmp_path / "ours", rewritten, policy=ours) is None


def test_registry_that_wants_a_certificate_gets_one(authority: Authority, tmp_path: Path) -> None:
    certificate, key = make_client()
    stranger, stranger_key = make_client()
    (tmp_path / "clients").mkdir()
    roots = tmp_path / "clients" / "clients.pem"
    roots.write_text(certificate)
    with running_registry(tmp_path / "registry", authority, client_ca=roots) as registry:
        client = Client(registry, "team/app", certificate=(certificate, key))
        reference = client.push(IMAGE)

        def attempt(name: str, shown: str, secret: bytes) -> str | None:
            known = rule(
                f'prefix = "{registry.host}"\nkey = "kbs:///default/client/key"\n'
                f"certificate = '''{shown}'''"
            )
            channel = Channel(str(tmp_path / name), secrets={key_pipe(0): secret})
            return reason(authority, tmp_path / name, known, reference, channel)

        assert attempt("taken", certificate, key) is None
        assert attempt("stranger", stranger, stranger_key) in {"net.closed", "net.tls"}
        assert attempt("mixed", certificate, stranger_key) == "net.client_certificate"
        assert attempt("broken", certificate, b"no key") == "net.client_certificate"
        assert reason(authority, tmp_path / "none", None, reference) in {"net.closed", "net.tls"}


def test_registry_behind_a_proxy_is_reached_through_it(
    authority: Authority, mirror: Registry, tmp_path: Path
) -> None:
    reference = f"{mirror.host}/cache/team/app@{IMAGE.digest}"
    with running_proxy() as proxy:
        known = rule(f'prefix = "{mirror.host}"\nproxy = "{proxy.address}"')
        assert reason(authority, tmp_path / "taken", known, reference) is None
        assert set(proxy.asked) == {mirror.host}
        proxy.refusals = [b"HTTP/1.1 503 Service Unavailable\r\n\r\n"]
        assert reason(authority, tmp_path / "at last", known, reference) is None
        proxy.refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
        assert reason(authority, tmp_path / "refused", known, reference) == "net.proxy"
        proxy.refusal = b"x" * 10_000
        assert reason(authority, tmp_path / "endless", known, reference) == "net.proxy"


def test_child_fetches_with_the_rights_of_its_role_only(
    authority: Authority, tmp_path: Path
) -> None:
    """Its own user, no file, and the system calls of the table; key and credentials by pipe."""
    certificate, key = make_client()
    (tmp_path / "clients").mkdir()
    roots = tmp_path / "clients" / "clients.pem"
    roots.write_text(certificate)
    layers = LayerPipe()
    with (
        running_registry(tmp_path / "registry", authority, client_ca=roots) as registry,
        running_proxy() as proxy,
    ):
        reference = Client(registry, "team/app", certificate=(certificate, key)).push(IMAGE)
        known = rule(
            f'prefix = "{registry.host}"\nkey = "kbs:///default/client/key"\n'
            f"certificate = '''{certificate}'''\nproxy = \"{proxy.address}\"\n"
            f'[[mirror]]\nlocation = "{registry.host}/empty"'
        )
        request = PullRequest(
            reference=reference,
            ca_pem=authority.ca_pem,
            limits=LIMITS,
            encryption=ImageEncryption.ALLOWED,
            has_auth=True,
            with_signatures=True,
            registry=known,
        )
        heard: list[object] = []

        async def answer(question: FoundSignatures) -> Answer:
            assert question == FoundSignatures(documents=(IMAGE.manifest,), manifests=())
            return Answer(value=AcceptedImage(documents=(), reasons=()))

        async def send(question: FoundImage) -> Answer:
            assert question.documents == (IMAGE.manifest,)
            return Answer(value=SendLayers(first=0), fds=(os.dup(layers.fd),))

        children = Children((sys.executable, "-m", "ccinit"), {"PYTHONPATH": str(Path.cwd())})
        EventLoop().run(
            children.run(
                Role.REGISTRY,
                request,
                PulledBlobs,
                seconds=60,
                secrets={key_pipe(0): Secret(key), AUTH_PIPE: Secret(b'{"auths":{}}')},
                answers={FoundSignatures: answer, FoundImage: send},
                notices=dict.fromkeys((SourceFailed, FetchBegun, Downloaded), heard.append),
            )
        )
    sent = layers.layers()
    assert sent == [IMAGE.blobs[name] for name in IMAGE.blob_names()]
    assert [type(notice) for notice in heard] == [SourceFailed, FetchBegun, Downloaded]
