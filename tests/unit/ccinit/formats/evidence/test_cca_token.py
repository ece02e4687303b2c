"""The claims that a realm reads of its own token."""

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.evidence.cca_token import MAX_TOKEN_BYTES, encode_cca_evidence, parse_cca_token
from tests.fakes.platforms.cca import FakeRealm, encode, sign1, tagged

CHALLENGE = bytes(range(64))
PERSONALIZATION = b"p" * 64
REALM = FakeRealm(personalization=PERSONALIZATION)
CLAIMS = sign1(REALM.claims(CHALLENGE))


def test_challenge_and_personalization_are_read() -> None:
    claims = parse_cca_token(REALM.token(CHALLENGE))
    assert (claims.challenge, claims.personalization) == (CHALLENGE, PERSONALIZATION)


def test_evidence_is_the_token_as_numbers() -> None:
    assert encode_cca_evidence(b"\x00\xff") == {"token": [0, 255]}


def collection(tokens: object, tag: int = 399) -> bytes:
    return tagged(tag, encode(tokens))


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (b"", "cca_token.cbor"),
        (encode({44234: b"", 44241: CLAIMS}), "cca_token.collection"),
        (collection({44234: b"", 44241: CLAIMS}, 907), "cca_token.collection"),
        (collection([CLAIMS]), "cca_token.claims"),
        (collection({44241: CLAIMS}), "cca_token.collection"),
        (collection({44234: b"", 44241: CLAIMS, 1: 2}), "cca_token.collection"),
        (collection({44234: b"", 44241: 7}), "cca_token.nested"),
        (collection({44234: b"", 44241: encode([])}), "cca_token.envelope"),
        (collection({44234: b"", 44241: tagged(18, encode([b"", {}]))}), "cca_token.envelope"),
        (
            collection({44234: b"", 44241: tagged(18, encode([b"", {}, {}, b""]))}),
            "cca_token.nested",
        ),
        (
            collection({44234: b"", 44241: tagged(18, encode([b"", {}, b"", b"", b""]))}),
            "cca_token.envelope",
        ),
        (
            collection({44234: b"", 44241: tagged(18, encode({0: 0, 1: 1, 3: 3, 4: 4}))}),
            "cca_token.envelope",
        ),
        (
            collection({44234: b"", 44241: tagged(18, encode([b"", {}, encode([]), b""]))}),
            "cca_token.claims",
        ),
        (FakeRealm(changes={10: None}).token(CHALLENGE), "cca_token.claims"),
        (FakeRealm(changes={10: bytes(32)}).token(CHALLENGE), "cca_token.claims"),
        (FakeRealm(changes={44235: None}).token(CHALLENGE), "cca_token.claims"),
        (FakeRealm(changes={44235: "p" * 64}).token(CHALLENGE), "cca_token.claims"),
        (bytes(MAX_TOKEN_BYTES + 1), "cca_token.size"),
    ],
)
def test_other_tokens_are_refused(token: bytes, reason: str) -> None:
    with pytest.raises(CcinitError) as refused:
        parse_cca_token(token)
    assert refused.value.reason == reason
