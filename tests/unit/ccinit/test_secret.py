"""A secret shows itself to nobody who did not ask."""

import copy
import pickle

import pytest

from ccinit.secret import Secret

CANARY = b"c4n4ry"


def test_secret_text_forms_hide_the_content() -> None:
    secret = Secret(CANARY)
    assert "c4n4ry" not in f"{secret} {secret!r}"
    assert secret.reveal() == CANARY
    assert len(secret) == 6


def test_secret_is_gone_after_its_block() -> None:
    with Secret(CANARY) as secret:
        buffer = secret._buffer
    assert secret.reveal() == b""
    assert not buffer


def test_secret_is_not_pickled_copied_or_hashed() -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy, hash):
        with pytest.raises(TypeError):
            attempt(Secret(CANARY))


def test_secrets_are_not_compared_by_content() -> None:
    first = second = Secret(b"a")
    assert first == second
    assert first != Secret(b"a")
