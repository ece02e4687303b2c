"""Records of an audit log, for whoever tests one."""

from guest_owner.kbs.appraisal import Claim
from guest_owner.kbs.audit.record import AuditRecord, Decision, Event

RECORD = AuditRecord(
    event=Event.ATTEST,
    session="label",
    tee="tpm",
    decision=Decision.ACCEPTED,
    reference="image-1",
    claims=(Claim(name="pcr.9", expected="aa", got="aa", holds=True),),
)
REFUSED = AuditRecord(
    event=Event.ATTEST,
    session="other",
    tee="tpm",
    decision=Decision.REFUSED,
    reason="pcr.9: evidence refused",
    claims=(Claim(name="pcr.9", expected="aa", got="bb", holds=False),),
)
