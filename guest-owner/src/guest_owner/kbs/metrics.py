"""Counters of the KBS in Prometheus' text format (version 0.0.4).

Every decision is an audit record, so the counters count records: by what was asked, what was
decided and, for a refusal, the name of the first claim that failed. Two further counters hold what
the KBS could not do for a fault of its own (a full disk, a file that does not parse), by the
error's reason, and peers that refuse its certificate, by TLS alert.

Labels are names of the code, never text that a peer sent, so the number of series is bounded; there
is a cap all the same.
"""

import re
from collections import Counter
from typing import Final

from guest_owner.kbs.audit.record import AuditRecord
from guest_owner.kbs.devices import Device

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_SERIES: Final = 512
_NAME: Final = "guest_owner_kbs_decisions_total"
_ENDS: Final = "guest_owner_kbs_certificate_not_after_seconds"
_ERRORS: Final = "guest_owner_kbs_internal_errors_total"
_ALERTS: Final = "guest_owner_kbs_certificate_alerts_total"
_DOTTED: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
_OVERFLOW: Final = "other"
_UNKNOWN_DEVICE: Final = "device.other"


class Metrics:
    """What happened since the server started."""

    def __init__(self) -> None:
        self._decisions: Counter[tuple[str, str, str]] = Counter()
        self._errors: Counter[str] = Counter()
        self._alerts: Counter[str] = Counter()
        self._certificate_ends: int | None = None

    def note_certificate(self, ends: int) -> None:
        """Take note of when the server's certificate ends, in seconds since 1970."""
        self._certificate_ends = ends

    def count(self, record: AuditRecord) -> None:
        """Count one record of the audit log."""
        series = (record.event.value, record.decision.value, _first_failing(record))
        if series not in self._decisions and len(self._decisions) >= MAX_SERIES:
            series = (record.event.value, record.decision.value, _OVERFLOW)
        self._decisions[series] += 1

    def count_error(self, reason: str) -> None:
        """Count a request that was answered with an internal error."""
        self._errors[reason] += 1

    def count_alert(self, alert: str) -> None:
        """Count a peer that refuses the certificate; `alert` is the name in RFC 8446 section 6."""
        self._alerts[alert] += 1

    def to_prometheus(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        lines = [
            f"# HELP {_NAME} Decisions by request, outcome and first failing claim.",
            f"# TYPE {_NAME} counter",
        ]
        lines += [
            f'{_NAME}{{event="{event}",decision="{decision}",claim="{claim}"}} {count}'
            for (event, decision, claim), count in sorted(self._decisions.items())
        ]
        if self._certificate_ends is not None:
            lines += [
                f"# HELP {_ENDS} When the certificate that the server shows ends.",
                f"# TYPE {_ENDS} gauge",
                f"{_ENDS} {self._certificate_ends}",
            ]
        lines += _family(_ERRORS, "Internal errors by reason.", "reason", self._errors)
        lines += _family(_ALERTS, "Refusals of the certificate.", "alert", self._alerts)
        return ("\n".join(lines) + "\n").encode("ascii")


def _family(name: str, help_text: str, label: str, counted: Counter[str]) -> list[str]:
    """Return the lines of one metric family; none until something is counted."""
    head = [f"# HELP {name} {help_text}", f"# TYPE {name} counter"] if counted else []
    return head + [f'{name}{{{label}="{key}"}} {count}' for key, count in sorted(counted.items())]


def _first_failing(record: AuditRecord) -> str:
    """Return a claim's or an error's dotted name, "" where a refusal has none."""
    for claim in record.claims:
        if not claim.holds:
            return _UNKNOWN_DEVICE if _names_unknown_device(claim.name) else claim.name
    reason, _, _ = record.reason.partition(":")
    return reason if _DOTTED.fullmatch(reason) else ""


def _names_unknown_device(claim: str) -> bool:
    """Whether the claim's name ends with a device name that a guest made up."""
    kind, _, device = claim.partition(".")
    return kind == "device" and device not in set(Device)
