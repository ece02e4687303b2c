"""PULL as PID 1 runs it: the agent, its real children with their real rights, and what it logs."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from ccinit.agent.guest import PhaseTime
from ccinit.agent.phases import images
from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.phases.pull_children import ImageChildren
from ccinit.agent.phases.storage import Unlocked
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.errors import CcinitError
from ccinit.formats.initdata.guest_config import Limits
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.oci.registries import Access, Location, RegistryRule
from ccinit.formats.pod.manifest import Image
from ccinit.kernel.event_loop import EventLoop
from ccinit.pull.erofs.index import IndexRequest
from ccinit.pull.image import unmount_layers
from ccinit.pull.messages.fetch import PolicyKey
from ccinit.secret import Secret
from tests.fakes.images import signatures as fake
from tests.fakes.images.registry import make_image
from tests.fakes.images.tars import Entry, make_tar
from tests.integration.pull.native_pull import run_mkfs
from tests.integration.pull.real_registry import Authority, running_registry
from tests.integration.pull.signers import Client, policy_json

IMAGE = make_image([make_tar(Entry("etc/motd", b"hello")), make_tar(Entry("etc/issue", b"hi"))])
POLICY = ResourceUri("ccinit", "shop", "file-policy")
KEY_URI = "kbs:///ccinit/shop/file-cosign"
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def store() -> Iterator[Path]:
    """A directory below directories that everybody may enter (pytest's own are private)."""
    with TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o711)
        yield Path(name)


class Guest:
    """As much of a guest as PULL looks at."""

    def __init__(self) -> None:
        path = os.pathsep.join((str(Path.cwd()), *filter(None, sys.path)))
        self.children = Children((sys.executable, "-m", "ccinit"), {"PYTHONPATH": path})
        self.events: list[str] = []
        self.undo: list[object] = []
        self.teardown = SimpleNamespace(push=lambda _name, undo: self.undo.append(undo))
        self.figures = SimpleNamespace(image_bytes={})
        self.phase_time = PhaseTime()
        self.measured: list[str] = []

    def event(self, text: str) -> None:
        self.events.append(text)


def access() -> Access:
    return Access(ca_pem="", certificate_pem="", key=None, proxy="")


async def index(_self: object, request: IndexRequest) -> None:
    """Run mkfs.erofs from the tools tree; the role's is the guest's."""
    run_mkfs(request)


def pull(guest: Guest, reference: str, host: str, authority: Authority, store: Path) -> None:
    """Pull with a policy, from a registry whose mirror has nothing; unmount again."""
    image = Image(
        name="web", reference=reference, policy=POLICY, auth=None, ca_pem=authority.ca_pem
    )
    mirror = Location(text=f"{host}/empty", access=access())
    rule = RegistryRule(
        prefix=host,
        location=Location(text=host, access=access()),
        blocked=False,
        mirrors=(mirror,),
    )
    manifest = SimpleNamespace(images=(image,), registries=(rule,), secrets=())
    configured: Any = SimpleNamespace(
        config=SimpleNamespace(limits=Limits()),
        manifest=manifest,
        measurement=SimpleNamespace(note=lambda event: guest.measured.append(event.operation)),
    )
    requirement = {
        "type": "sigstoreSigned",
        "keyPath": KEY_URI,
        "signedIdentity": {"type": "matchRepository"},
    }
    policy = Secret(bytearray(policy_json(requirement)))
    attested = Attested(
        grants={POLICY: Grant(secret=policy, create=False)},
        policy_keys=(PolicyKey(resource=KEY_URI, data=fake.public_pem(KEY)),),
    )
    anybody: Any = guest
    unlocked = Unlocked(volumes={}, store=str(store))
    done = EventLoop().run(images.pull(anybody, configured, attested, unlocked))
    layers = done.images["web"].layers
    assert (Path(layers[0].mount_point) / "etc/motd").read_bytes() == b"hello"
    assert len(policy) == 0
    unmount_layers(layers)


def count_walkers(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> list[Role]:
    """Return a list that gets an entry for each child that will walk layers."""
    walkers: list[Role] = []
    prepare = guest.children.prepare

    def counted(role: Role, **details: Any) -> Any:
        walkers.extend([role] * (role is Role.TREE))
        return prepare(role, **details)

    monkeypatch.setattr(guest.children, "prepare", counted)
    return walkers


@pytest.mark.parametrize(("processors", "walkers"), [(1, 1), (2, 2), (8, 2)])
def test_signed_image_is_pulled_and_the_owner_is_told_how(
    authority: Authority,
    tmp_path: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    processors: int,
    walkers: int,
) -> None:
    monkeypatch.setattr(ImageChildren, "index", index)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(processors)))
    with running_registry(tmp_path / "registry", authority) as registry:
        client = Client(registry, "team/app")
        reference = client.push(IMAGE)
        guest = Guest()
        (store / "unsigned").mkdir()
        with pytest.raises(CcinitError) as refused:
            pull(guest, reference, registry.host, authority, store / "unsigned")
        assert refused.value.reason == "signature.none"
        assert guest.measured == []
        payload = fake.payload_of(IMAGE.digest, client.name)
        client.attach(
            fake.signature_tag(IMAGE.digest), fake.classic(fake.classic_layer(payload, KEY))
        )
        guest = Guest()
        walking = count_walkers(guest, monkeypatch)
        pull(guest, reference, registry.host, authority, store)
    told = [re.sub(r"localhost:\d+", "HOST", text) for text in guest.events]
    layer_bytes = sum(len(IMAGE.blobs[name]) for name in IMAGE.blob_names())
    first = len(IMAGE.blobs[IMAGE.blob_names()[0]])
    nothing = (
        "registry.not_found: HOST/empty/team/app: the registry does not have it:"
        " status 404 (MANIFEST_UNKNOWN)"
    )
    assert told == [
        f"image web: passed over HOST/empty/team/app@{IMAGE.digest}: {nothing}",
        "image web: the policy accepts it: signed by key 1 of the policy",
        f"image web: 2 layers of {layer_bytes} bytes to fetch",
        f"image web: {first} bytes of layers",
        f"image web: {layer_bytes} bytes of layers",
        f"image web: manifest {IMAGE.digest}, 2 layers, 7 bytes of files",
    ]
    assert len(walking) == walkers
    assert len(guest.undo) == 1
    assert guest.measured == ["PullImage"]
