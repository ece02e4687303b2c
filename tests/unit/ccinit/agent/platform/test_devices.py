"""What PID 1 opens for a child, and how often it asks again."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ccinit.agent.jobs.messages.evidence import EvidenceReply, EvidenceRequest
from ccinit.agent.platform import devices
from ccinit.agent.platform.devices import MAX_REQUESTS, open_platform, run_on_platform
from ccinit.agent.processes.roles import Role
from ccinit.attest.detect import Node, Platform
from ccinit.errors import CcinitError, KernelError, PeerError
from ccinit.formats.evidence.tee import Tee
from ccinit.kernel.event_loop import EventLoop

REPORT_DATA = bytes(64)
SECONDS = 10.0


class Requests:
    """A platform whose reports are asked for by PID 1."""

    def __init__(self) -> None:
        self.opened, self.closed = 0, 0

    @contextmanager
    def open(self, report_data: bytes) -> Iterator[Mapping[str, int]]:
        assert report_data == REPORT_DATA
        self.opened += 1
        try:
            yield {"outblob": 100 + self.opened}
        finally:
            self.closed += 1


class Children:
    """Children that are disturbed a number of times."""

    def __init__(self, disturbed: int, reason: str = "tee.generation") -> None:
        self.disturbed = disturbed
        self.reason = reason
        self.seen: list[Mapping[str, int]] = []
        self.seconds: list[float] = []
        self.now = 1000.0
        self.takes_seconds = 0.0

    def boottime(self) -> float:
        return self.now

    async def run(self, role: Role, request: object, reply: type, **options: Any) -> EvidenceReply:
        assert (role, type(request), reply) == (Role.EVIDENCE, EvidenceRequest, EvidenceReply)
        self.seen.append(options["fds"])
        self.seconds.append(options["seconds"])
        self.now += self.takes_seconds
        if len(self.seen) <= self.disturbed:
            raise PeerError(self.reason, "the request changed")
        return EvidenceReply(evidence=b"{}")


def run(children: Children, requests: Requests) -> EvidenceReply:
    guest: Any = SimpleNamespace(children=children)
    return EventLoop().run(
        run_on_platform(
            guest,
            Platform(tee=Tee.SNP, open_report=requests.open),
            Role.EVIDENCE,
            EvidenceRequest(tee=Tee.SNP, report_data=REPORT_DATA),
            EvidenceReply,
            report_data=REPORT_DATA,
            seconds=SECONDS,
        )
    )


def test_child_has_the_report_that_was_asked_for() -> None:
    children, requests = Children(0), Requests()
    assert run(children, requests).evidence == b"{}"
    assert children.seen == [{"outblob": 101}]
    assert (requests.opened, requests.closed) == (1, 1)


def test_r18_disturbed_request_is_made_anew() -> None:
    children, requests = Children(MAX_REQUESTS - 1), Requests()
    assert run(children, requests)
    assert (requests.opened, requests.closed) == (16, 16)
    assert len({fds["outblob"] for fds in children.seen}) == 16


def test_r18_request_that_is_always_disturbed_is_given_up() -> None:
    children, requests = Children(1000), Requests()
    with pytest.raises(PeerError) as refused:
        run(children, requests)
    assert refused.value.reason == "tee.generation"
    assert (requests.opened, requests.closed) == (16, 16)


def test_r18_all_requests_together_have_the_time_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others wait for the evidence: a host that disturbs it could hold them up 16 times as long."""
    children, requests = Children(1000), Requests()
    children.takes_seconds = SECONDS / 2.5
    monkeypatch.setattr(devices, "boottime", children.boottime)
    with pytest.raises(PeerError) as refused:
        run(children, requests)
    assert refused.value.reason == "tee.generation"
    assert children.seconds == [10.0, 6.0, 2.0]
    assert (requests.opened, requests.closed) == (3, 3)


def test_other_refusals_are_not_repeated() -> None:
    children, requests = Children(1000, "tee.io"), Requests()
    with pytest.raises(PeerError) as refused:
        run(children, requests)
    assert refused.value.reason == "tee.io"
    assert (requests.opened, requests.closed) == (1, 1)


def test_nodes_are_open_while_they_are_needed(tmp_path: Path) -> None:
    for name in ("read", "write"):
        (tmp_path / name).write_bytes(b"content")
    nodes = tuple(
        Node(name=name, path=str(tmp_path / name), writable=name == "write")
        for name in ("read", "write")
    )
    with open_platform(Platform(tee=Tee.TPM, nodes=nodes), REPORT_DATA) as fds:
        assert os.read(fds["read"], 10) == b"content"
        assert os.write(fds["write"], b"new") == 3
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fds["read"], b"new")
        assert not os.get_inheritable(fds["read"])
        opened = dict(fds)
    for fd in opened.values():
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_node_that_is_gone_is_an_error_with_its_name(tmp_path: Path) -> None:
    node = Node(name="tpm", path=str(tmp_path / "absent"), writable=True)
    with (
        pytest.raises(CcinitError) as refused,
        open_platform(Platform(tee=Tee.TPM, nodes=(node,)), REPORT_DATA),
    ):
        pass
    assert isinstance(refused.value, KernelError)
    assert refused.value.reason == "kernel.open"
