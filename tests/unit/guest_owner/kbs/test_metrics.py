import pytest

from guest_owner.kbs.appraisal import Claim
from guest_owner.kbs.audit.record import AuditRecord, Decision, Event
from guest_owner.kbs.metrics import MAX_SERIES, Metrics

CLAIMS = tuple(
    Claim(name=name, expected="a", got="b", holds=name == "pcr.4")
    for name in ("pcr.4", "pcr.9", "pcr.12")
)


def record(reason: str = "", claims: tuple[Claim, ...] = ()) -> AuditRecord:
    return AuditRecord(
        event=Event.ATTEST,
        session="label",
        tee="tpm",
        decision=Decision.REFUSED,
        reason=reason,
        claims=claims,
        resource="kbs:///a/b/c",
    )


def series(metrics: Metrics) -> dict[str, int]:
    lines = metrics.to_prometheus().decode().splitlines()
    assert lines[1] == "# TYPE guest_owner_kbs_decisions_total counter"
    return {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in lines[2:]}


def test_refusals_are_counted_by_their_first_failing_claim() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.count(record("pcr.9: evidence refused", CLAIMS))
    name = 'guest_owner_kbs_decisions_total{event="attest",decision="refused",claim="pcr.9"}'
    assert series(metrics) == {name: 3}


@pytest.mark.parametrize(
    ("reason", "claim"),
    [
        ("rcar.nonce: not the nonce of this session", "rcar.nonce"),
        ("no verifier for 'x'", ""),
        ('a"} 1\nfake{b="', ""),
        ("one", ""),
    ],
)
def test_only_names_of_the_code_become_labels(reason: str, claim: str) -> None:
    metrics = Metrics()
    metrics.count(record(reason))
    (name,) = series(metrics)
    assert name.endswith(f'claim="{claim}"}}')


def test_devices_that_guests_make_up_are_one_series() -> None:
    metrics = Metrics()
    for name in ("sampledevice", "gpuA", "gpuB"):
        device = Claim(name=f"device.{name}", expected="none", got=name, holds=False)
        metrics.count(record(f"device.{name}: evidence refused", (device,)))
    claims = {name.partition('claim="')[2]: count for name, count in series(metrics).items()}
    assert claims == {'device.sampledevice"}': 1, 'device.other"}': 2}


def test_series_are_capped() -> None:
    metrics = Metrics()
    for number in range(MAX_SERIES + 10):
        metrics.count(record(f"x.n{number}: y"))
    counted = series(metrics)
    assert len(counted) == MAX_SERIES + 1
    assert sum(counted.values()) == MAX_SERIES + 10
    (overflow,) = (name for name in counted if 'claim="other"' in name)
    assert counted[overflow] == 10


def test_end_of_the_certificate_is_there_once_it_is_known() -> None:
    metrics = Metrics()
    name = "guest_owner_kbs_certificate_not_after_seconds"
    assert name not in metrics.to_prometheus().decode()
    metrics.note_certificate(1_800_000_000)
    assert metrics.to_prometheus().decode().endswith(f"# TYPE {name} gauge\n{name} 1800000000\n")


def test_own_errors_and_alerts_are_families_once_there_are_any() -> None:
    metrics = Metrics()
    assert b"internal_errors" not in metrics.to_prometheus()
    metrics.count_error("audit.write")
    metrics.count_error("audit.write")
    metrics.count_alert("unknown_ca")
    lines = metrics.to_prometheus().decode().splitlines()
    assert 'guest_owner_kbs_internal_errors_total{reason="audit.write"} 2' in lines
    assert 'guest_owner_kbs_certificate_alerts_total{alert="unknown_ca"} 1' in lines
    assert lines.count("# TYPE guest_owner_kbs_internal_errors_total counter") == 1
