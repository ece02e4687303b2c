"""A pod's share of the audit log: no guest pushes out what others did."""

from dataclasses import replace
from pathlib import Path
from weakref import WeakSet

from guest_owner.kbs.audit.log import AuditLog, has_records, read_audit
from guest_owner.kbs.audit.record import Decision, Event
from guest_owner.kbs.audit.shares import Shares
from guest_owner.kbs.limits import Limits
from tests.unit.guest_owner.kbs.audit_records import RECORD

LIMITS = Limits(
    audit_file_bytes=2000, audit_older_files=2, pod_day_bytes=1000, surplus_older_files=1
)
SHOP = replace(RECORD, initdata_name="shop", session="shop", claims=())
NOISE = replace(
    SHOP,
    event=Event.RESOURCE,
    decision=Decision.DENIED,
    session="noise",
    initdata_name="noise",
    resource="kbs:///a/b/c",
)


def test_guest_that_asks_again_and_again_pushes_out_no_other_pods_records(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, LIMITS)
    log.append(SHOP)
    for number in range(200):
        log.append(replace(NOISE, reason=f"number {number}"))
    log.append(replace(SHOP, reason="later"))
    records = list(read_audit(path))
    assert [one["reason"] for one in records if one["session"] == "shop"] == ["", "later"]
    told = [str(one["reason"]) for one in records if one["session"] == "noise"]
    assert (told[0], told[-1]) == ("number 0", "number 199")
    assert len(told) < 200
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) < 8000


def test_surplus_alone_is_a_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path, replace(LIMITS, pod_day_bytes=0)).append(SHOP)
    assert [one.name for one in tmp_path.iterdir()] == ["audit-surplus.jsonl"]
    assert has_records(path)
    assert [one["session"] for one in read_audit(path)] == ["shop"]


def test_share_is_whole_again_after_a_day_and_never_more() -> None:
    now = 0.0
    shares = Shares(1000, lambda: now)
    assert shares.take("shop", 600)
    assert not shares.take("shop", 600)
    assert shares.take("shop", 400)
    assert shares.take("bank", 1000)
    now = 12 * 3600
    assert not shares.take("shop", 501)
    assert shares.take("shop", 499)
    now = 30 * 24 * 3600
    assert shares.take("shop", 1000)
    assert not shares.take("shop", 1)


def test_pods_that_come_and_go_leave_nothing_once_their_shares_are_whole_again() -> None:
    """A KBS runs for months, and each document that is registered meanwhile has a name."""

    class Name(str):
        """A text that can be asked whether anybody still has it."""

        __slots__ = ("__weakref__",)

    now = 0.0
    shares, names = Shares(1000, lambda: now), WeakSet[Name]()
    for number in range(3000):
        now += 3600
        name = Name(f"pod-{number}")
        names.add(name)
        assert shares.take(name, 1000)
        assert min(number + 1, 24) <= len(names) <= 26
    assert not shares.take("pod-2999", 1)
