"""Digests: one spelling."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding.digest import parse_digest, sha256_digest

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_digest_of_nothing_is_the_known_one() -> None:
    assert str(sha256_digest(b"")) == EMPTY
    assert parse_digest(EMPTY) == sha256_digest(b"")
    assert len(parse_digest(EMPTY).raw) == 32


@pytest.mark.parametrize(
    "text",
    [
        EMPTY.upper(),
        EMPTY.replace("sha256", "sha512"),
        EMPTY[:-1],
        EMPTY + "0",
        EMPTY.replace("e3", "E3"),
        "sha256:../../../../../../../../etc/passwd",
        "",
        EMPTY + "\n",
    ],
)
def test_digest_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_digest(text)
    assert caught.value.reason == "digest.form"
