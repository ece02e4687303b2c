"""The child that reads a launch's secrets, for real, with its rights and nothing else.

Needs root, for the change of user.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ccinit.agent.jobs.messages.kbs import KbsReply, LaunchRequest
from ccinit.agent.jobs.messages.measurement import BindReply, BindRequest
from ccinit.agent.phases.attestation import plan_resources
from ccinit.agent.processes.children import Children
from ccinit.agent.processes.roles import Role
from ccinit.errors import CcinitError
from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.kernel.efi_secret import open_secrets
from ccinit.kernel.event_loop import EventLoop
from tests.fakes.documents.guest import FULL_POD
from tests.fakes.platforms.launch import DATE, POLICY_KEY, RESOURCES, STATEMENT, Launch

pytestmark = pytest.mark.usefixtures("as_root")

ROOT = Path(__file__).resolve().parents[3]
WANTED = plan_resources(parse_pod_manifest(FULL_POD))


@pytest.fixture
def children() -> Children:
    path = os.pathsep.join((str(ROOT), *filter(None, sys.path)))
    return Children((sys.executable, "-m", "ccinit"), {"PYTHONPATH": path})


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def read(children: Children, tree: Path) -> KbsReply:
    with open_secrets(str(tree)) as fds:
        job = children.run(Role.LAUNCH, LaunchRequest(wanted=WANTED), KbsReply, seconds=30, fds=fds)
        return EventLoop().run(job)


def test_child_brings_every_secret(children: Children, tmp_path: Path) -> None:
    reply = read(children, Launch().write(tmp_path / "coco"))
    expected = {uri: data for uri, (_kind, data) in RESOURCES.items() if uri != POLICY_KEY}
    assert {str(one.uri): one.data for one in reply.released} == expected
    assert (reply.date, reply.token) == (DATE, "")


def test_childs_refusal_keeps_its_reason(children: Children, tmp_path: Path) -> None:
    launch = Launch()
    launch.entries["00000000-0000-0000-0000-000000000000"] = b"a secret of another use"
    with pytest.raises(CcinitError) as refused:
        read(children, launch.write(tmp_path / "coco"))
    assert refused.value.reason == "envelope.json"


def test_measuring_child_compares_the_statement(children: Children, tmp_path: Path) -> None:
    tree = Launch().write(tmp_path / "coco")

    def bind(document: bytes) -> BindReply:
        request = BindRequest(tee=Tee.SEV, digest=sha256_digest(document).raw)
        with opened(tree / STATEMENT) as fd:
            fds = {"statement": fd}
            job = children.run(Role.MEASURE, request, BindReply, seconds=30, fds=fds)
            return EventLoop().run(job)

    assert bind(b"document").tee is Tee.SEV
    with pytest.raises(CcinitError) as refused:
        bind(b"the host's document")
    assert refused.value.reason == "config.mismatch"
