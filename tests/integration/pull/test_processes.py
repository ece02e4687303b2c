"""Layers that go through the children's own pipes, from a hostile registry: who has the reason.

Whichever child ends first, the pull is refused for what was wrong, and not for a pipe without an
end; what can be mended is mended. Each case uses the processes that the guest does, with their
restrictions.
"""

import gzip
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ccinit.agent.phases.attestation import Attested
from ccinit.agent.phases.images import Pulled, prepare_first, pull
from ccinit.agent.phases.kbs_session import Grant
from ccinit.agent.phases.storage import Unlocked
from ccinit.errors import CcinitError
from ccinit.formats.initdata.guest_config import Limits
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.pod.manifest import Image
from ccinit.formats.pod.volume import ScratchProfile, ScratchVolume
from ccinit.kernel.event_loop import EventLoop
from ccinit.secret import Secret
from tests.fakes.images.encrypted_image import KEK, KID, annotations, make_encrypted_image, seal
from tests.fakes.images.hostile_registry import Fault, HostileRegistry, serve_hostile
from tests.fakes.images.registry import REPOSITORY, FakeImage, make_image
from tests.fakes.images.tars import Entry, make_tar
from tests.fakes.machine.owned import owned_pids
from tests.integration.pull.native_pull import describe_tree
from tests.integration.pull.real_registry import Authority
from tests.integration.pull.test_encrypted import (
    Confined,
    configured_with,
    guest_with_children,
    open_folder,
)

KEY = parse_resource_uri(KID)
CONTENT = random.Random(1).randbytes(3 << 20)  # noqa: S311  # does not compress
TARS = (make_tar(Entry("data", CONTENT), Entry("etc", None)), make_tar(Entry("etc/motd", b"hi")))
IMAGE = make_image(TARS)
LARGE, SMALL = IMAGE.blob_names()
MIDDLE = len(IMAGE.blobs[LARGE]) // 2


@pytest.fixture(autouse=True)
def _program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccinit.agent.phases.images.ImageChildren", Confined)


@pytest.fixture
def registry(authority: Authority) -> Iterator[HostileRegistry]:
    with serve_hostile(IMAGE, authority.server_context()) as registry:
        yield registry


async def pull_by_waiting(guest: Any, configured: Any, unlocked: Unlocked) -> Pulled:
    """Do it as a guest with a scratch disk, which has the key of encrypted layers."""
    scratch = ScratchVolume(name="scratch", size_bytes=1 << 30, profile=ScratchProfile.AEAD_RAM)
    configured.manifest.volumes = (scratch,)
    attested = Attested(grants={KEY: Grant(secret=Secret(KEK), create=False)})
    async with prepare_first(guest, configured) as waiting:
        assert waiting is not None
        pulled = await pull(guest, configured, attested, unlocked, waiting)
    readers = () if configured.manifest.images[0].keys else (waiting.unpack, waiting.layers)
    used = (waiting.registry, waiting.inspect, *readers)
    assert all(child is not None and child.is_used for child in used)
    return pulled


def pull_from(
    registry: HostileRegistry,
    authority: Authority,
    image: FakeImage = IMAGE,
    *,
    encrypted: bool = False,
    **limits: int,
) -> str | None:
    """Pull by the agent's children, of which some wait; return the reason of a refusal, or None."""
    one = Image(
        name="web",
        reference=f"localhost:{registry.port}/{REPOSITORY}@{image.digest}",
        policy=None,
        auth=None,
        ca_pem=authority.ca_pem,
        keys=(KEY,) if encrypted else (),
    )
    guest, configured = guest_with_children(), configured_with(one)
    configured.config.limits = Limits(**limits)
    with open_folder() as store:
        unlocked = Unlocked(volumes={}, store=str(store))
        try:
            done = EventLoop().run(pull_by_waiting(guest, configured, unlocked))
        except CcinitError as error:
            assert not [path for path in store.rglob("layer-?") if path.is_mount()]
            assert not owned_pids()
            return error.reason
        try:
            tree = describe_tree(Path(done.images["web"].layers[0].mount_point))
            assert tree["data"][4] == len(CONTENT)
            return None
        finally:
            EventLoop().run(guest.teardown.run())


@pytest.mark.parametrize("reset", [False, True], ids=["cut", "reset"])
@pytest.mark.parametrize("then", [Fault(), Fault(ignore_range=True)], ids=["range", "no range"])
def test_layer_that_breaks_in_the_middle_of_a_pipe_is_whole(
    registry: HostileRegistry, authority: Authority, then: Fault, *, reset: bool
) -> None:
    first = Fault(cut=MIDDLE, reset=reset, times=1)
    registry.faults |= {LARGE: first, "/" + LARGE: then}
    assert pull_from(registry, authority) is None
    assert sum(LARGE in path for path, _headers in registry.requests) >= 2


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


REFUSED: dict[str, tuple[Fault, set[str]]] = {
    "a layer that the registry denies": (Fault(status=403), {"registry.unauthorized"}),
    # Two children find it out at the same moment, and either is right.
    "a layer with other bytes at its end": (
        Fault(body=flipped(IMAGE.blobs[LARGE], len(IMAGE.blobs[LARGE]) - 1)),
        {"pull.blob_digest", "pull.gzip"},
    ),
    "a layer that is longer": (Fault(body=IMAGE.blobs[LARGE] + b"x"), {"pull.blob_size"}),
    "another layer of that length": (
        Fault(body=b"\0" * len(IMAGE.blobs[LARGE])),
        {"pull.gzip"},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layer_is_refused_for_what_is_wrong_with_it(
    registry: HostileRegistry, authority: Authority, name: str
) -> None:
    fault, reasons = REFUSED[name]
    registry.faults[LARGE] = fault
    assert pull_from(registry, authority) in reasons
    registry.faults.clear()
    assert pull_from(registry, authority) is None


LYING: dict[str, tuple[Callable[[], FakeImage], str]] = {
    "a tar that is not the config's": (
        lambda: make_image(TARS, diff_ids=["sha256:" + "0" * 64] * 2),
        "pull.diff_id",
    ),
    "a file through a symlink": (
        lambda: make_image(
            [make_tar(Entry("a", kind=b"2", link="/etc"), Entry("a/passwd")), TARS[0]]
        ),
        "tar.parent",
    ),
    "a bomb": (
        lambda: make_image([TARS[0] + bytes(80 << 20)], pack=lambda tar: gzip.compress(tar, 1)),
        "pull.layer_bytes",
    ),
}


@pytest.mark.parametrize("name", LYING)
def test_image_is_refused_by_the_child_that_sees_it(authority: Authority, name: str) -> None:
    make, reason = LYING[name]
    context, limit = authority.server_context(), 64 << 20
    with serve_hostile(make(), context) as registry:
        assert pull_from(registry, authority, registry.image, image_bytes=limit) == reason
    with serve_hostile(IMAGE, context) as registry:
        assert pull_from(registry, authority, image_bytes=limit) is None


SYMLINK = make_tar(Entry("a", kind=b"2", link="/etc"), Entry("a/passwd"), Entry("data", CONTENT))
ENCRYPTED = make_encrypted_image([seal(tar) for tar in TARS], TARS)
ENCRYPTED_FAULTS: dict[str, tuple[FakeImage, str]] = {
    "another HMAC": (
        make_encrypted_image(
            [replace(seal(TARS[0]), annotations=annotations(b"another"))], TARS[:1]
        ),
        "enc.hmac",
    ),
    "another HMAC of the second layer": (
        make_encrypted_image(
            [seal(TARS[0]), replace(seal(TARS[1]), annotations=annotations(b"another"))], TARS
        ),
        "enc.hmac",
    ),
    "more than a pipe holds that is not packed": (
        make_encrypted_image([seal(TARS[0], bytes)], TARS[:1]),
        "pull.gzip",
    ),
    "a file through a symlink, before more than a pipe holds": (
        make_encrypted_image([seal(SYMLINK)], [SYMLINK]),
        "tar.parent",
    ),
    "a tar that is not the config's": (
        make_encrypted_image([seal(TARS[0])], TARS[1:]),
        "pull.diff_id",
    ),
}


@pytest.mark.parametrize("name", ENCRYPTED_FAULTS)
def test_encrypted_image_is_refused_by_the_child_that_sees_it(
    authority: Authority, name: str
) -> None:
    """Those that read its layers are started while it is decrypted, and may end at any time."""
    image, reason = ENCRYPTED_FAULTS[name]
    context = authority.server_context()
    with serve_hostile(image, context) as registry:
        assert pull_from(registry, authority, image, encrypted=True) == reason
    with serve_hostile(ENCRYPTED, context) as registry:
        assert pull_from(registry, authority, ENCRYPTED, encrypted=True) is None


def test_encrypted_image_whose_download_fails_leaves_nobody_who_waits_for_it(
    authority: Authority,
) -> None:
    """The child that would decrypt it does, by then."""
    with serve_hostile(ENCRYPTED, authority.server_context()) as registry:
        last = ENCRYPTED.blob_names()[-1]
        other = flipped(ENCRYPTED.blobs[last], -1)
        registry.faults[last] = Fault(body=other, stall=2.0)  # keys are open before its end
        refused = pull_from(registry, authority, ENCRYPTED, encrypted=True)
        assert refused == "pull.blob_digest"
        registry.faults.clear()
        assert pull_from(registry, authority, ENCRYPTED, encrypted=True) is None
