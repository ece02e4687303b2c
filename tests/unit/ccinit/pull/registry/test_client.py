from collections.abc import Callable

import pytest

from ccinit.errors import CcinitError, LimitExceededError, PeerError, VerificationError
from ccinit.formats.encoding.digest import parse_digest
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.pull.registry.authentication import Credential
from ccinit.pull.registry.client import Registry, RegistryLimits
from ccinit.values import replace
from tests.fakes.images.registry import FAST, FakeHttp, Waits, broken_after, make_image, reply

IMAGE = make_image([b"tar"])
HOST = "registry.docker.example"
REFERENCE = parse_image_reference(f"{HOST}/team/app@{IMAGE.digest}")
LAYER = parse_digest(IMAGE.blob_names()[0])
BLOB = IMAGE.blobs[str(LAYER)]


class Blob:
    """Keeps what it is fed."""

    def __init__(self) -> None:
        self.data = b""
        self.restarts = 0

    @property
    def received_bytes(self) -> int:
        return len(self.data)

    @property
    def missing_bytes(self) -> int:
        return len(BLOB) - len(self.data)

    def feed(self, data: bytes) -> None:
        self.data += data

    def restart(self) -> None:
        self.data = b""
        self.restarts += 1


class Harness:
    def __init__(self, credential: str = "") -> None:
        self.http = FakeHttp(IMAGE)
        self.waits = Waits()
        known = Credential(user_password=credential) if credential else None
        self.registry = Registry(self.http, REFERENCE, known, FAST, self.waits)
        self.blob = Blob()

    def download(self) -> bytes:
        self.registry.blob(LAYER, self.blob)
        return self.blob.data

    def refusal(self, action: Callable[[], object]) -> str:
        with pytest.raises(CcinitError) as refused:
            action()
        return refused.value.reason

    def authorizations(self) -> list[str | None]:
        return [dict(headers).get("authorization") for _url, headers in self.http.seen]


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


def over_a_bad_line(*breaks: object) -> Harness:
    """A pull whose download goes so; a break uses up no attempt if 5 bytes more have come."""
    harness = Harness()
    limits = replace(FAST, won_bytes=5)
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
    harness.http.script(str(LAYER), reply(429, retry_after="7"), reply(503, retry_after="99999"))
    assert harness.download() == BLOB
    assert harness.waits == [7.0, pytest.approx(60.0, abs=1.0)]


def test_busy_registry_may_name_a_date() -> None:
    harness = Harness()
    later = replace(reply(503, retry_after="Wed, 21 Oct 2026 07:28:09 GMT"), date=1_792_567_680)
    no_date = reply(503, retry_after="Wed, 21 Oct 2026 07:28:09 GMT")
    harness.http.script(str(LAYER), later, no_date)
    assert harness.download() == BLOB
    assert harness.waits == [9.0, 18.0]


def test_identity_token_is_exchanged_and_never_sent_to_the_registry() -> None:
    harness = Harness()
    known = Credential(user_password="", identity_token="identity")
    harness.registry = Registry(harness.http, REFERENCE, known, FAST, harness.waits)
    realm = 'Bearer realm="https://auth.docker.example/token"'
    harness.http.script(str(LAYER), reply(401, www_authenticate=realm))
    harness.http.script("/token", reply(200, b'{"access_token":"t"}'))
    assert harness.download() == BLOB
    assert harness.authorizations() == [None, None, "Bearer t"]
    assert b"refresh_token=identity" in harness.http.bodies[0]
    harness.http.script(str(LAYER), *[reply(401, www_authenticate="Basic")])
    harness.blob = Blob()
    assert harness.refusal(harness.download) == "registry.unauthorized"


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


def test_longer_body_than_announced_is_a_wrong_blob() -> None:
    harness = Harness()
    harness.http.script(str(LAYER), LimitExceededError("net.body", "x"))
    assert harness.refusal(harness.download) == "pull.blob_size"
    harness.http.script(str(LAYER), LimitExceededError("net.headers", "x"))
    assert harness.refusal(harness.download) == "net.headers"


def test_basic_challenge_gets_the_password_once() -> None:
    harness = Harness("me:secret")
    challenge = reply(401, www_authenticate='Basic realm="x"')
    harness.http.script(str(LAYER), challenge)
    assert harness.download() == BLOB
    harness.registry.manifest(REFERENCE.digest)
    first, *rest = harness.authorizations()
    assert first is None
    assert rest == ["Basic bWU6c2VjcmV0"] * 2
    wrong = Harness("me:wrong")
    wrong.http.script(str(LAYER), challenge, challenge)
    assert wrong.refusal(wrong.download) == "registry.unauthorized"


@pytest.mark.parametrize(
    ("credential", "known"), [("", "no credential"), ("a:b", "the credential")]
)
def test_refused_access_tells_whether_a_credential_was_known(credential: str, known: str) -> None:
    harness = Harness(credential)
    harness.http.script(str(LAYER), reply(403))
    with pytest.raises(PeerError) as refused:
        harness.download()
    assert refused.value.reason == "registry.unauthorized"
    assert refused.value.detail.endswith(f"/team/app: status 403 to {known}")


def test_basic_challenge_without_a_password_is_refused() -> None:
    harness = Harness()
    harness.http.script(str(LAYER), reply(401, www_authenticate="Basic"))
    assert harness.refusal(harness.download) == "registry.unauthorized"


@pytest.mark.parametrize("credential", ["", "me:secret"])
def test_bearer_challenge_is_answered_with_a_token(credential: str) -> None:
    harness = Harness(credential)
    realm = 'Bearer realm="https://auth.docker.example/token",service="s"'
    harness.http.script(str(LAYER), reply(401, www_authenticate=realm))
    harness.http.script("/token", reply(200, b'{"token":"t"}'))
    assert harness.download() == BLOB
    _first, token, last = harness.authorizations()
    assert token == ("Basic bWU6c2VjcmV0" if credential else None)
    assert last == "Bearer t"


def test_registry_that_offers_several_schemes_gets_one_that_is_known() -> None:
    harness = Harness("me:secret")
    offered = [("www-authenticate", text) for text in ("Negotiate", 'Basic realm="x"')]
    harness.http.script(str(LAYER), replace(reply(401), headers=tuple(offered)))
    assert harness.download() == BLOB
    assert harness.authorizations() == [None, "Basic bWU6c2VjcmV0"]


def test_token_service_that_refuses_ends_the_pull() -> None:
    harness = Harness()
    realm = 'Bearer realm="https://auth.docker.example/token"'
    harness.http.script(str(LAYER), reply(401, www_authenticate=realm))
    harness.http.script("/token", reply(403))
    assert harness.refusal(harness.download) == "registry.token"


def test_token_service_that_is_busy_is_asked_again() -> None:
    harness = Harness()
    challenge = reply(401, www_authenticate='Bearer realm="https://auth.docker.example/token"')
    harness.http.script(str(LAYER), challenge, challenge)
    harness.http.script("/token", reply(503, retry_after="5"), reply(200, b'{"token":"t"}'))
    assert harness.download() == BLOB
    assert harness.waits == [5.0]
    assert harness.authorizations()[-1] == "Bearer t"
    harness = Harness()
    harness.http.script(str(LAYER), *[challenge] * 3)
    harness.http.script("/token", *[reply(429)] * 3)
    assert harness.refusal(harness.download) == "registry.busy"


def test_token_service_elsewhere_learns_no_password() -> None:
    harness = Harness("me:secret")
    realm = 'Bearer realm="https://evil.test/token"'
    harness.http.script(str(LAYER), reply(401, www_authenticate=realm))
    assert harness.refusal(harness.download) == "registry.realm"
    assert len(harness.http.seen) == 1


@pytest.mark.parametrize(
    ("origin", "sent"),
    [
        ("https://cdn.example", None),
        (f"https://{HOST}:8443", None),
        (f"https://{HOST}", "Basic bWU6c2VjcmV0"),
        (f"https://{HOST}:443", "Basic bWU6c2VjcmV0"),
    ],
)
def test_redirect_leaves_the_authorization_to_its_origin(origin: str, sent: str | None) -> None:
    harness = Harness("me:secret")
    harness.http.script(
        str(LAYER),
        reply(401, www_authenticate="Basic"),
        reply(307, location=f"{origin}/x/{LAYER}"),
    )
    assert harness.download() == BLOB
    assert harness.authorizations() == [None, "Basic bWU6c2VjcmV0", sent]
    assert harness.http.seen[-1][0] == f"{origin}/x/{LAYER}"


def test_challenge_of_another_origin_is_not_answered() -> None:
    harness = Harness("me:secret")
    harness.http.script(
        str(LAYER),
        reply(307, location="https://cdn.example/x/" + str(LAYER)),
        reply(401, www_authenticate="Basic"),
    )
    assert harness.refusal(harness.download) == "registry.unauthorized"
    assert harness.authorizations() == [None, None]


@pytest.mark.parametrize("location", ["http://cdn.example/x", "https://127.0.0.1/x", ""])
def test_redirect_to_where_no_registry_is_gets_refused(location: str) -> None:
    harness = Harness()
    harness.http.script(str(LAYER), reply(307, location=location))
    assert harness.refusal(harness.download) == "registry.redirect"
    assert len(harness.http.seen) == 1
    assert Harness().download() == BLOB


def test_redirects_without_an_end_are_refused() -> None:
    harness = Harness()
    step = reply(302, location=f"/v2/team/app/blobs/{LAYER}")
    harness.http.script(str(LAYER), *[step] * 4)
    assert harness.refusal(harness.download) == "registry.redirects"
    harness.http.script(str(LAYER), *[step] * 3)
    assert harness.download() == BLOB


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
