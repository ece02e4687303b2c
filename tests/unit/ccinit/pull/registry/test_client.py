"""How patient a pull is with its registry: attempts, breaks, refusals, time."""

from collections.abc import Callable

import pytest

from ccinit.errors import LimitExceededError, PeerError, VerificationError
from ccinit.pull.registry.client import Registry, RegistryLimits
from ccinit.values import replace
from tests.fakes.images.registry import FAST, broken_after, reply
from tests.unit.ccinit.pull.registry.client_harness import (
    BLOB,
    HOST,
    IMAGE,
    LAYER,
    REFERENCE,
    Blob,
    Harness,
)


def test_manifest_is_asked_for_by_digest_with_the_known_types() -> None:
    harness = Harness()
    assert harness.registry.manifest(REFERENCE.digest).body == IMAGE.manifest
    url, headers = harness.http.seen[0]
    assert url == f"https://{HOST}/v2/team/app/manifests/{IMAGE.digest}"
    assert "application/vnd.oci.image.index.v1+json" in dict(headers)["accept"]
    assert harness.authorizations() == [None]


@pytest.mark.parametrize("reason", ["net.resolver", "net.unreachable", "net.timeout"])
def test_registry_that_is_not_reached_is_tried_again(reason: str) -> None:
    harness = Harness()
    harness.http.script(str(LAYER), *[PeerError(reason, "x")] * 2)
    assert harness.download() == BLOB
    assert harness.waits == [1.0, 2.0]


def test_registry_may_be_away_for_a_minute() -> None:
    """As while it restarts; a guest that gave up would begin its whole boot anew."""
    harness = Harness()
    patient = RegistryLimits(total_seconds=600)
    harness.registry = Registry(harness.http, REFERENCE, None, patient, harness.waits)
    harness.http.script(str(LAYER), *[PeerError("net.unreachable", "x")] * (patient.attempts - 1))
    assert harness.download() == BLOB
    assert 60 <= sum(harness.waits) <= 120
    harness.http.script(str(LAYER), *[PeerError("net.unreachable", "x")] * patient.attempts)
    harness.blob.restart()
    assert harness.refusal(harness.download) == "net.unreachable"


def test_download_that_breaks_goes_on_where_it_stopped() -> None:
    harness = Harness()
    harness.http.script(str(LAYER), broken_after(BLOB[:5]), broken_after(BLOB[:9], "net.timeout"))
    assert harness.download() == BLOB
    offsets = [dict(headers)["offset"] for _url, headers in harness.http.seen]
    assert offsets == ["0", "5", "9"]
    assert harness.waits == [1.0, 2.0]


def part_up_to(end: int) -> Callable[..., None]:
    """A script step: send the blob from the offset on, but not all of it."""

    def step(sink: Callable[[bytes], None], offset: int) -> None:
        sink(BLOB[offset:end])

    return step


def test_download_goes_on_behind_a_part_that_is_shorter_than_was_asked_for() -> None:
    """Which a server may send; it says what it sends (RFC 9110, section 15.3.7)."""
    harness = Harness()
    harness.http.script(str(LAYER), broken_after(BLOB[:5]), part_up_to(9))
    assert harness.download() == BLOB
    offsets = [dict(headers)["offset"] for _url, headers in harness.http.seen]
    assert offsets == ["0", "5", "9"]
    assert harness.waits == [1.0, 2.0]


def test_parts_that_bring_nothing_use_up_the_attempts() -> None:
    harness = Harness()
    harness.http.script(str(LAYER), broken_after(BLOB[:5]), *[part_up_to(5)] * 20)
    assert harness.refusal(harness.download) == "net.truncated"
    assert len(harness.http.seen) == FAST.attempts


def test_whole_blob_that_is_too_short_is_not_asked_for_again() -> None:
    """It is another blob, and not a part of this one."""
    harness = Harness()
    harness.http.script(str(LAYER), part_up_to(5))
    assert harness.download() == BLOB[:5]
    assert len(harness.http.seen) == 1


def over_a_bad_line(*breaks: object) -> Harness:
    """A pull whose download goes so; a break uses up no attempt if 5 bytes more have come."""
    harness = Harness()
    limits = replace(FAST, progress_bytes=5)
    harness.registry = Registry(harness.http, REFERENCE, None, limits, harness.waits)
    harness.http.script(str(LAYER), *breaks)
    return harness


def test_break_after_much_that_is_new_uses_up_no_attempt() -> None:
    harness = over_a_bad_line(*[broken_after(BLOB[:end]) for end in range(5, 23, 5)])
    assert harness.download() == BLOB
    offsets = [dict(headers)["offset"] for _url, headers in harness.http.seen]
    assert offsets == ["0", "5", "10", "15", "20"]
    assert harness.waits == [1.0] * 4


def test_breaks_after_little_are_counted_until_much_has_come() -> None:
    ends = (3, 6, 9, 12, 17, 20, 22)  # 6, 12, 17 and 22 are much beyond what they are compared with
    harness = over_a_bad_line(*[broken_after(BLOB[:end]) for end in ends])
    assert harness.refusal(harness.download) == "net.truncated"
    assert harness.blob.data == BLOB[:20]
    assert harness.waits == [1.0, 1.0, 2.0, 1.0, 1.0]


def test_download_that_has_come_far_and_comes_no_more_has_its_attempts() -> None:
    harness = over_a_bad_line(broken_after(BLOB[:20]), *[PeerError("net.timeout", "x")] * 20)
    assert harness.refusal(harness.download) == "net.timeout"
    assert len(harness.http.seen) == 1 + FAST.attempts
    assert harness.waits == [1.0, 2.0, 4.0]


def test_service_without_ranges_wins_nothing_by_what_it_sends_again() -> None:
    no_range = PeerError("net.range", "no ranges")
    harness = over_a_bad_line(*[broken_after(BLOB[:5]), no_range] * 20)
    assert harness.refusal(harness.download) == "net.truncated"
    assert len(harness.http.seen) == 1 + 2 * FAST.attempts


@pytest.mark.parametrize("reason", ["net.truncated", "net.closed", "net.timeout", "net.protocol"])
def test_download_that_breaks_behind_its_last_byte_is_whole(reason: str) -> None:
    """As a chunked reply may; bytes from there on are a range that no service has."""
    harness = Harness()
    harness.http.script(str(LAYER), broken_after(BLOB[:5]), broken_after(BLOB, reason), reply(416))
    assert harness.download() == BLOB
    assert len(harness.http.seen) == 2


def test_download_that_is_refused_behind_its_last_byte_is_no_break() -> None:
    harness = Harness()
    harness.http.script(str(LAYER), broken_after(BLOB, "net.deadline"))
    assert harness.refusal(harness.download) == "net.deadline"


def test_download_from_a_service_without_ranges_begins_anew() -> None:
    harness = Harness()
    harness.http.script(str(LAYER), broken_after(BLOB[:5]), PeerError("net.range", "no ranges"))
    assert harness.download() == BLOB
    assert harness.blob.restarts == 1
    offsets = [dict(headers)["offset"] for _url, headers in harness.http.seen]
    assert offsets == ["0", "5", "0"]
    assert harness.waits == [1.0]


def test_service_that_sends_a_part_of_what_was_asked_for_whole_is_asked_no_oftener() -> None:
    harness = Harness()
    harness.http.script(str(LAYER), *[PeerError("net.range", "a part")] * 20)
    assert harness.refusal(harness.download) == "net.range"
    assert len(harness.http.seen) == FAST.attempts


def test_service_without_ranges_has_every_attempt_for_the_blob() -> None:
    no_range = PeerError("net.range", "no ranges")
    harness = Harness()
    breaks = [broken_after(BLOB[:5]), no_range] * (FAST.attempts - 1)
    harness.http.script(str(LAYER), *breaks)
    assert harness.download() == BLOB
    assert harness.waits == [1.0, 2.0]


def test_download_that_never_ends_gives_up_with_the_last_reason() -> None:
    harness = Harness()
    harness.http.script(str(LAYER), *[PeerError("net.closed", "x")] * 3)
    assert harness.refusal(harness.download) == "net.closed"
    assert Harness().download() == BLOB


@pytest.mark.parametrize("reason", ["net.certificate", "net.dns", "net.deadline", "net.encoding"])
def test_error_that_will_not_pass_is_not_tried_again(reason: str) -> None:
    harness = Harness()
    harness.http.script(str(LAYER), PeerError(reason, "x"))
    assert harness.refusal(harness.download) == reason
    assert len(harness.http.seen) == 1


def test_busy_registry_is_given_the_time_it_asks_for() -> None:
    harness = Harness()
    harness.http.script(str(LAYER), reply(429, retry_after="7"), reply(503, retry_after="999999"))
    assert harness.download() == BLOB
    assert harness.waits == [7.0, pytest.approx(60.0, abs=1.0)]


def test_busy_registry_may_name_a_date() -> None:
    harness = Harness()
    later = replace(reply(503, retry_after="Wed, 21 Oct 2026 07:28:09 GMT"), date=1_792_567_680)
    no_date = reply(503, retry_after="Wed, 21 Oct 2026 07:28:09 GMT")
    harness.http.script(str(LAYER), later, no_date)
    assert harness.download() == BLOB
    assert harness.waits == [9.0, 18.0]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, "registry.not_found"),
        (403, "registry.unauthorized"),
        (400, "registry.status"),
        (304, "registry.status"),
        (501, "registry.status"),
        (505, "registry.status"),
    ],
)
def test_refusal_by_status_is_final(status: int, reason: str) -> None:
    harness = Harness()
    harness.http.script(str(LAYER), reply(status))
    assert harness.refusal(harness.download) == reason
    assert len(harness.http.seen) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520, 522, 524, 527])
def test_busy_registry_is_asked_again_and_not_for_ever(status: int) -> None:
    harness = Harness()
    harness.http.script(str(LAYER), *[reply(status)] * 2)
    assert harness.download() == BLOB
    assert harness.waits == [1.0, 2.0]
    harness.blob = Blob()
    harness.http.script(str(LAYER), *[reply(status)] * 3)
    assert harness.refusal(harness.download) == "registry.busy"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (429, f"{HOST}/team/app: status 429 (TOOMANYREQUESTS)"),
        (400, f"{HOST}/team/app: status 400 (TOOMANYREQUESTS)"),
    ],
)
def test_code_that_a_registry_gives_is_told(status: int, said: str) -> None:
    harness = Harness()
    body = b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "x"}]}'
    harness.http.script(str(LAYER), *[reply(status, body)] * 3)
    with pytest.raises(PeerError) as refused:
        harness.download()
    assert refused.value.detail == said


def test_longer_body_than_announced_is_a_wrong_blob() -> None:
    harness = Harness()
    harness.http.script(str(LAYER), LimitExceededError("net.body", "x"))
    assert harness.refusal(harness.download) == "pull.blob_size"
    harness.http.script(str(LAYER), LimitExceededError("net.headers", "x"))
    assert harness.refusal(harness.download) == "net.headers"


def test_pull_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("ccinit.pull.registry.client.boottime", lambda: now[0])
    in_time, late = Harness(), Harness()
    now[0] += FAST.total_seconds - 1
    assert in_time.download() == BLOB
    now[0] += 2
    assert late.refusal(late.download) == "registry.deadline"
    assert late.http.seen == []


def test_pull_without_time_for_another_attempt_tells_the_last_failure() -> None:
    harness = Harness()
    short = RegistryLimits(total_seconds=3, attempts=3)
    harness.registry = Registry(harness.http, REFERENCE, None, short, harness.waits)
    harness.http.script(str(LAYER), reply(503, retry_after="9"))
    assert harness.refusal(harness.download) == "registry.busy"
    assert (len(harness.http.seen), harness.waits) == (1, [])


def test_manifest_that_is_too_long_is_refused_by_the_cap() -> None:
    harness = Harness()
    harness.http.script(
        str(REFERENCE.digest), LimitExceededError("net.body", "more than 1048576 bytes")
    )
    with pytest.raises(VerificationError) as refused:
        harness.registry.manifest(REFERENCE.digest)
    assert (refused.value.reason, refused.value.detail) == (
        "pull.blob_size",
        "more than 1048576 bytes",
    )


def test_empty_blob_is_not_asked_for() -> None:
    harness = Harness()
    harness.blob.data = BLOB
    harness.download()
    assert harness.http.seen == []
