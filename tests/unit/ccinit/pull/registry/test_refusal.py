import json

import pytest

from ccinit.pull.registry.refusal import describe_status, refusal
from tests.fakes.images.registry import reply


def body_of(*codes: object) -> bytes:
    """Return the body of a refusal as distribution-spec has it."""
    errors = [{"code": code, "message": "a text", "detail": {"a": 1}} for code in codes]
    return json.dumps({"errors": errors}).encode()


@pytest.mark.parametrize(
    ("status", "reason", "detail"),
    [
        (401, "registry.unauthorized", "r/a: status 401 (DENIED) to no credential"),
        (403, "registry.unauthorized", "r/a: status 403 (DENIED) to no credential"),
        (404, "registry.not_found", "r/a: the registry does not have it: status 404 (DENIED)"),
        (400, "registry.status", "r/a: status 400 (DENIED)"),
    ],
)
def test_refusal_tells_place_status_and_code(status: int, reason: str, detail: str) -> None:
    error = refusal(reply(status, body_of("DENIED")), "no credential", "r/a")
    assert (error.reason, error.detail) == (reason, detail)


def test_several_codes_are_told_and_not_more_than_four() -> None:
    said = describe_status(reply(429, body_of("TOOMANYREQUESTS", "UNSUPPORTED")))
    assert said == "status 429 (TOOMANYREQUESTS, UNSUPPORTED)"
    assert describe_status(reply(400, body_of(*"ABCDE"))) == "status 400 (A, B, C, D)"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>gone</html>",
        b'{"errors": "none"}',
        b'{"message": "gone"}',
        b"[]",
        b'{"errors": ["DENIED", {"code": 1}, {}]}',
        body_of("", "denied", "DENIED\x1b[31m", "D" * 33, "a sentence"),
        body_of("DENIED") + b" " * 65_536,
    ],
)
def test_body_of_another_form_says_nothing(body: bytes) -> None:
    assert describe_status(reply(400, body)) == "status 400"
    error = refusal(reply(400, body), "the credential", "r/a")
    assert (error.reason, error.detail) == ("registry.status", "r/a: status 400")


def test_bad_code_does_not_hide_a_good_one() -> None:
    longest = "D" * 32
    assert describe_status(reply(400, body_of("a text", "NAME_INVALID", longest))) == (
        f"status 400 (NAME_INVALID, {longest})"
    )
