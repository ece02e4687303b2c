"""CONFIG as PID 1 runs it: what is bound, and whose word it takes for what the guest runs on."""

import hashlib
from types import SimpleNamespace
from typing import cast

import pytest

from ccinit.agent.guest import Guest
from ccinit.agent.jobs.messages.measurement import BindReply, BindRequest
from ccinit.agent.phases import configuration
from ccinit.agent.phases.configuration import _name_platform
from ccinit.agent.processes.roles import Role
from ccinit.agent.teardown import Teardown
from ccinit.attest.detect import Platform
from ccinit.boot.configuration import (
    InitdataDocument,
    ParseInitdata,
    ReadInitdata,
    parse_configuration,
)
from ccinit.errors import ChildError, VerificationError
from ccinit.formats.evidence.tee import Tee
from ccinit.kernel.block import BlockDevice
from ccinit.kernel.event_loop import EventLoop
from tests.fakes.documents.coco import document_of
from tests.fakes.documents.guest import CONFIG, POD
from tests.fakes.machine.no_waiting import finish
from tests.faults.plugin import FaultSeen

DOCUMENT = document_of({"ccinit.toml": CONFIG, "pod.toml": POD})
TPM = Platform(tee=Tee.TPM, asked=(Tee.AZ_SNP_VTPM, Tee.AZ_TDX_VTPM))


@pytest.mark.parametrize("tee", [Tee.TPM, Tee.AZ_SNP_VTPM, Tee.AZ_TDX_VTPM])
def test_child_names_one_of_those_that_look_the_same(tee: Tee) -> None:
    named = _name_platform(TPM, tee)
    assert (named.tee, named.nodes) == (tee, TPM.nodes)


@pytest.mark.parametrize(
    ("platform", "tee"),
    [
        (TPM, Tee.SNP),
        (TPM, Tee.CCA),
        (Platform(tee=Tee.SNP), Tee.TPM),
        (Platform(tee=Tee.TDX), Tee.AZ_TDX_VTPM),
    ],
)
def test_child_that_names_another_is_not_believed(platform: Platform, tee: Tee) -> None:
    with pytest.raises(ChildError) as refused:
        _name_platform(platform, tee)
    assert refused.value.reason == "child.protocol"


class Children:
    """Stands in for the children: gives what the host's disk holds, and notes what PID 1 asks."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.disk = 0
        self.binding: VerificationError | None = None

    async def run(self, _role: Role, request: object, _reply: type, **_how: object) -> object:
        self.asked.append(request)
        match request:
            case ReadInitdata():
                return InitdataDocument(disk=self.disk, document=DOCUMENT)
            case ParseInitdata(document=document):
                return parse_configuration(document)
        raise AssertionError(request)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    made = Children()

    async def bind(
        _guest: Guest, platform: Platform, _role: Role, request: BindRequest, *_rest: object,
        **_how: object,
    ) -> BindReply:  # fmt: skip
        made.asked.append(request)
        if made.binding is not None:
            raise made.binding
        return BindReply(tee=platform.tee, parameters=b"{}")

    disk = BlockDevice(
        name="null", number="1:3", size_bytes=4096, read_only=True, serial="", holders=()
    )
    monkeypatch.setattr(configuration, "list_virtio_disks", lambda: (disk,))
    monkeypatch.setattr(configuration, "run_on_platform", bind)
    return made


def configured(
    children: Children, monkeypatch: pytest.MonkeyPatch, tee: Tee
) -> configuration.Configured:
    return finish(configuration.configure(guest_on(tee, children, monkeypatch)))


def guest_on(tee: Tee, children: Children, monkeypatch: pytest.MonkeyPatch) -> Guest:
    monkeypatch.setattr(configuration, "detect_platform", lambda: Platform(tee=tee))
    return cast("Guest", SimpleNamespace(children=children, teardown=Teardown()))


def test_r08_bytes_that_are_parsed_are_those_that_were_bound(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in this order: nothing of the document is parsed before the platform holds its digest."""
    assert configured(children, monkeypatch, Tee.SNP).document == DOCUMENT
    digest = hashlib.sha256(DOCUMENT).digest()
    assert children.asked == [
        ReadInitdata(),
        BindRequest(tee=Tee.SNP, digest=digest),
        ParseInitdata(document=DOCUMENT),
    ]


def test_what_the_platform_tells_is_kept_for_the_kbs(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configured(children, monkeypatch, Tee.SNP).parameters == b"{}"


@pytest.mark.parametrize(("tee", "wiped"), [(Tee.SEV, 1), (Tee.SNP, 0)])
def test_secrets_of_a_launch_are_wiped_even_if_nobody_comes_to_read_them(
    tee: Tee, wiped: int, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    wipes: list[str] = []
    monkeypatch.setattr(configuration, "wipe_secrets", lambda: wipes.append("wiped"))
    guest = guest_on(tee, children, monkeypatch)
    children.binding = VerificationError("config.digest", "another document")
    with pytest.raises(VerificationError):
        finish(configuration.configure(guest))
    assert wipes == []
    EventLoop().run(guest.teardown.run())
    assert len(wipes) == wiped


def test_host_that_attaches_no_disk_gives_no_configuration(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configuration, "list_virtio_disks", lambda: ())
    with pytest.raises(VerificationError) as refused:
        configured(children, monkeypatch, Tee.SNP)
    assert (refused.value.reason, children.asked) == ("config.absent", [])


@pytest.mark.parametrize("disk", [-1, 1])
def test_child_that_names_a_disk_that_is_not_there_is_at_fault(
    disk: int, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    children.disk = disk
    with pytest.raises(ChildError) as refused:
        configured(children, monkeypatch, Tee.SNP)
    assert refused.value.reason == "child.protocol"
    assert children.asked == [ReadInitdata()]
    children.disk = 0
    assert configured(children, monkeypatch, Tee.SNP).document == DOCUMENT


def test_r07_document_of_another_algorithm_than_the_platforms_is_refused(
    children: Children, monkeypatch: pytest.MonkeyPatch, fault_seen: FaultSeen
) -> None:
    with pytest.raises(VerificationError) as refused:
        configured(children, monkeypatch, Tee.TDX)
    assert refused.value.reason == "initdata.algorithm"
    fault_seen.guest(refused.value.reason)
