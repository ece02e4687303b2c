"""What a guest carries for the KBS opens for that KBS, label and size only."""

import pytest

from ccinit.errors import VerificationError
from guest_owner.kbs.attestation_requests.sealing import SEALING_KEY_BYTES, seal, unseal

KEY, LABEL, CONTENT = bytes(range(SEALING_KEY_BYTES)), b"label", b"0123456789"


def test_what_was_sealed_opens() -> None:
    assert unseal(KEY, LABEL, seal(KEY, LABEL, CONTENT), len(CONTENT), "a.b") == CONTENT


@pytest.mark.parametrize(
    ("key", "label", "size_bytes"),
    [
        (bytes(SEALING_KEY_BYTES), LABEL, len(CONTENT)),
        (KEY, b"other", len(CONTENT)),
        (KEY, LABEL, len(CONTENT) + 1),
    ],
)
def test_what_another_sealed_or_for_something_else_is_refused(
    key: bytes, label: bytes, size_bytes: int
) -> None:
    with pytest.raises(VerificationError, match="not one that this KBS made") as refused:
        unseal(key, LABEL, seal(KEY, label, CONTENT), size_bytes, "a.b")
    assert refused.value.reason == "a.b"


def test_without_a_key_nothing_opens() -> None:
    """Not under one that anybody can guess, either."""
    sealed = seal(bytes(SEALING_KEY_BYTES), LABEL, CONTENT)
    assert unseal(bytes(SEALING_KEY_BYTES), LABEL, sealed, len(CONTENT), "a.b") == CONTENT
    with pytest.raises(VerificationError, match="there is no key") as refused:
        unseal(None, LABEL, sealed, len(CONTENT), "a.b")
    assert refused.value.reason == "a.b"
