"""A client whose time passes only by sleeping, and the resources that it asks for."""

from collections.abc import Callable, Sequence

import pytest

from ccinit.attest.client import KbsClient
from ccinit.attest.composite import DeviceAttester
from ccinit.attest.patience import AttestLimits, Waiting
from ccinit.errors import CcinitError
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from tests.fakes.kbs.http import URL, FakeKbs, evidence_for

URI = parse_resource_uri("kbs:///ccinit/pod/file-a")
OTHER = parse_resource_uri("kbs:///ccinit/pod/file-b")
HANDSHAKE = ["auth", "attest"]
FETCH = ["resource/ccinit/pod/file-a"]


class Guest:
    """A client whose time passes only by sleeping."""

    def __init__(
        self,
        kbs: FakeKbs,
        *,
        total_seconds: float = 600.0,
        key_algorithm: TeeKeyAlgorithm = TeeKeyAlgorithm.P256,
        devices: Sequence[DeviceAttester] = (),
    ) -> None:
        self.now = 0.0
        self.naps: list[float] = []
        self.client = KbsClient(
            url=URL,
            transport=kbs,
            tee=Tee.TPM,
            evidence_for=evidence_for,
            init_data='version = "0.1.0"',
            key_algorithm=key_algorithm,
            devices=devices,
            limits=AttestLimits(total_seconds=total_seconds),
            waiting=Waiting(now=lambda: self.now, sleep=self._sleep, fraction=lambda: 0.5),
        )

    def _sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds

    def get(self) -> bytes:
        return self.client.get_resource(URI).body.reveal()


def refused_reason(action: Callable[[], object]) -> str:
    with pytest.raises(CcinitError) as refused:
        action()
    return refused.value.reason
