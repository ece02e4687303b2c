"""The parts of a running KBS, joined over one state directory."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from guest_owner.kbs.administration.calls import Administration
from guest_owner.kbs.audit.log import AUDIT_NAME, AuditLog
from guest_owner.kbs.authority import read_token_key
from guest_owner.kbs.broker import KeyBroker
from guest_owner.kbs.decisions import Decisions
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.metrics import Metrics
from guest_owner.kbs.minting import IdentityMinter
from guest_owner.kbs.passport_admission import PassportAdmission
from guest_owner.kbs.sessions import Sessions
from guest_owner.kbs.state.store import Store
from guest_owner.kbs.token import TokenSigner


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the HTTP surface serves; `state` is the state directory."""

    state: Path
    broker: KeyBroker
    administration: Administration
    metrics: Metrics
    signer: TokenSigner


def open_service(
    state: Path,
    limits: Limits,
    mint: IdentityMinter,
    clock: Callable[[], float] = time.monotonic,
) -> Service:
    """Return the service over a state directory.

    `mint` makes the TLS identities of guests; `clock` counts the life of sessions.
    """
    store = Store(state)
    metrics = Metrics()
    audit = AuditLog(state / AUDIT_NAME, limits, metrics.count)
    signer = TokenSigner(read_token_key(state), life_seconds=limits.token_seconds)
    decisions = Decisions(audit)
    passports = PassportAdmission(store, decisions)
    broker = KeyBroker(store, decisions, Sessions(limits, clock), signer, mint, passports)
    return Service(
        state=state,
        broker=broker,
        administration=Administration(store, audit),
        metrics=metrics,
        signer=signer,
    )
