"""What is told of a call: to who makes it, and to the audit log."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guest_owner.kbs.administration.calls import AdminCall
from guest_owner.kbs.audit.log import read_audit
from guest_owner.kbs.refusal import KbsRefusedError, Variant


def told(log: Path) -> list[tuple[object, ...]]:
    """Return what the log has of each call: decision, the reason's first word, who."""
    return [
        (one["decision"], str(one["reason"]).partition(":")[0], one.get("administrator", ""))
        for one in read_audit(log)
    ]


def refused(action: Callable[..., object], *arguments: object) -> tuple[Variant, int, str]:
    with pytest.raises(KbsRefusedError) as caught:
        action(*arguments)
    return caught.value.variant, caught.value.status, caught.value.detail


def put(call: AdminCall, path: str, body: bytes) -> None:
    """Have a body judged, then stored."""
    for _ in call.judge_resource(path, body):
        pass
    call.put_resource(path, body)
