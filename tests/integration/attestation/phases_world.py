"""What CONFIG leaves to ATTEST, and a sealed log of which only the key is looked at."""

from types import SimpleNamespace
from typing import Any

from ccinit.agent.jobs.messages.kbs import Wanted
from ccinit.attest.detect import Platform
from ccinit.formats.evidence.log_key import parse_log_evidence
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.initdata.guest_config import (
    EnvelopePolicy,
    Limits,
    LogConfig,
)
from ccinit.formats.kbs.envelope import EnvelopeKind
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.sealed_log import BootId, report_data
from guest_owner.kbs.state.store import Store
from guest_owner.kbs.verifiers.table import verify_log_evidence
from tests.fakes.platforms.measured_events import MeasuredEvents
from tests.integration.kbs.harness import DOCUMENT, URI, Kbs

WANTED = Wanted(uri=parse_resource_uri("kbs:///" + URI), kind=EnvelopeKind.FILE)
_SIGNING_KEY = b"k" * 32


def configured(
    kbs: Kbs, platform: Platform, *, document: bytes = DOCUMENT, parameters: bytes = b""
) -> Any:
    """A guest whose document names this KBS; parameters: what CONFIG learned for the handshake."""
    return SimpleNamespace(
        config=SimpleNamespace(
            kbs=kbs.config(envelope=EnvelopePolicy.NONE),
            limits=Limits(attest_seconds=60),
            log=LogConfig(public_key=b"owner"),
        ),
        platform=platform,
        measurement=MeasuredEvents(),
        document=document,
        parameters=parameters,
    )


class SealedLog:
    """The sealed log, as far as its key is concerned."""

    def arrange(self, *, capacity: int, batch_bytes: int) -> None:
        """Its sizes are of no concern."""

    def open(self, _owner_key: bytes, boot_id: BootId) -> None:
        self._boot_id = boot_id
        self.binding = report_data(boot_id, _SIGNING_KEY)

    def bind(self, evidence: bytes) -> None:
        self._evidence = evidence

    def vouched_document(self, kbs: Kbs, tee: Tee) -> str:
        """Have the owner's verifier judge what was bound; return the document's name there."""
        said = parse_log_evidence(self._evidence)
        assert said.tee == tee
        appraised = verify_log_evidence(
            tee,
            said.evidence,
            boot_id=self._boot_id,
            signing_key=_SIGNING_KEY,
            references=Store(kbs.state).read_references(),
        )
        return appraised.initdata.name
