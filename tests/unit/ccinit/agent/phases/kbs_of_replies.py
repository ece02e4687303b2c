"""A KBS child that answers each request with whatever was asked for, and keeps the requests."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ccinit.agent.guest import PhaseTime
from ccinit.agent.jobs.messages.kbs import (
    KbsReply,
    KbsRequest,
    Released,
)
from ccinit.agent.phases import attestation, kbs_session
from ccinit.agent.teardown import Teardown
from ccinit.formats.disk.verity import RootHash
from ccinit.formats.kbs.debug_grant import DebugGrant
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.kbs.rollback_counter import counter_uri
from tests.fakes.documents.guest import FULL_POD

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

NOW = 1_800_000_000
COUNTED_POD = FULL_POD.replace('"persistent"', '"persistent"\nrollback = "kbs-counter"')
COUNTER = counter_uri("demo", "data")
VOLUME_KEY = parse_resource_uri("kbs:///ccinit/demo/volume-key-data")
GRANT = DebugGrant(
    evidence_key=bytes(32), expires_s=NOW, tools_root=RootHash(bytes(32)), keep_pod=False
)


class Kbs:
    """Stands for the children of one guest; its reply has whatever was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[KbsRequest] = []
        self.answers: list[dict[object, Callable[[Any], Coroutine[object, None, Any]]]] = []
        self.grant: DebugGrant | None = GRANT
        self.guest: Any = SimpleNamespace(
            children=self,
            event=lambda _text: None,
            phase_time=PhaseTime(),
            teardown=Teardown(),
            log=SimpleNamespace(mix=lambda _psk: None, bind=lambda _evidence: None),
        )

        async def answering(*_: object) -> object:
            return None

        monkeypatch.setattr(kbs_session, "answering", answering)
        monkeypatch.setattr(kbs_session, "advance_clock", lambda _seconds: 0)
        monkeypatch.setattr(attestation, "set_clock", lambda *_times: None)
        monkeypatch.setattr(attestation, "read_build_time", lambda: 0)

    async def run(
        self, _role: object, request: KbsRequest, _reply: object, *, answers: Any, seconds: float
    ) -> KbsReply:
        assert seconds == 10
        self.requests.append(request)
        self.answers.append(answers)
        return KbsReply(
            released=tuple(
                Released(uri=one.uri, data=b"x", create=one.uri == VOLUME_KEY, identity=None)
                for one in request.wanted
            ),
            policy_keys=(),
            date=NOW,
            token="token" if request.with_token else "",
            counters=tuple(range(7, 7 + len(request.counters))),
            debug_grant=self.grant if request.debug_grant is not None else None,
        )
