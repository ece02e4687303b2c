"""Between PID 1 and the children `evidence` and `endorse`, which a cloud's evidence needs."""

from ccinit.formats.evidence.tee import Tee
from ccinit.values import frozen


@frozen
class EvidenceRequest:
    """What the evidence has to carry.

    Attributes:
        report_data: at most 64 bytes.
        events: records of the guest's own event log, for platforms whose evidence has it.
        initdata: digest of the document, for platforms whose evidence states it.
        verifiers_request: for platforms whose evidence answers one.
    """

    tee: Tee
    report_data: bytes
    events: bytes = b""
    initdata: bytes = b""
    verifiers_request: bytes = b""


@frozen
class EvidenceReply:
    """The evidence as JSON text, in the form of the platform's verifier."""

    evidence: bytes


@frozen
class EndorsementQuestion:
    """Asks PID 1 to have the cloud's service endorse an encoded hardware report."""

    hardware: bytes


@frozen
class EndorsementAnswer:
    """The service's endorsement: a certificate, or a quote."""

    endorsement: bytes


@frozen
class EndorseRequest:
    """Whose service to ask, and for what; see `EndorsementQuestion`."""

    tee: Tee
    hardware: bytes
