"""What ATTEST looks at of a configuration, on any platform."""

from types import SimpleNamespace
from typing import Any

from ccinit.attest.detect import Platform
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import KbsTransport
from ccinit.formats.pod.manifest import parse_pod_manifest
from tests.fakes.documents.guest import FULL_POD
from tests.fakes.platforms.measured_events import MeasuredEvents

DOCUMENT = b"document"


def configured_on(
    tee: Tee = Tee.TPM,
    *,
    transport: KbsTransport = KbsTransport.TCP,
    attest_seconds: int = 10,
    pod: str = FULL_POD,
) -> Any:
    kbs = SimpleNamespace(
        url="", ca_pem="", transport=transport, envelope=None, tee_key_algorithm=None, passport=None
    )
    return SimpleNamespace(
        platform=Platform(tee=tee, devices=("nvidia",)),
        document=DOCUMENT,
        measurement=MeasuredEvents(b"events"),
        manifest=parse_pod_manifest(pod),
        config=SimpleNamespace(
            owner=None, kbs=kbs, limits=SimpleNamespace(attest_seconds=attest_seconds)
        ),
        parameters=b"{}",
    )
