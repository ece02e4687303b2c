"""Invariant: what a KBS gives beside sealed replies (envelopes, identities, counters, sealed
secrets, cookies, tokens, nonces of verifiers), whatever its bytes, is a value or a `CcinitError`;
what is taken is what its own writer writes.

Run as `python -m tests.fuzz.fuzz_kbs_replies [SECONDS [SEED]]`.
"""

import contextlib
from collections.abc import Callable

from ccinit.attest.session import parse_session_cookie, token_seconds
from ccinit.errors import CcinitError
from ccinit.formats.encoding.strict_json import encode_base64, encode_base64url
from ccinit.formats.kbs.envelope import Envelope, EnvelopeKind, encode_envelope, parse_envelope
from ccinit.formats.kbs.passport import parse_verifier_nonce
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.kbs.rollback_counter import (
    HOLDER_BYTES,
    CounterAdvance,
    CounterReply,
    counter_uri,
    encode_counter_advance,
    encode_counter_reply,
    parse_counter_advance,
    verify_counter_reply,
)
from ccinit.formats.kbs.sealed_secret import parse_sealed_secret
from ccinit.formats.kbs.tls_identity import MAX_CERTIFICATES, parse_tls_identity
from ccinit.net.http import HttpReply
from tests.fakes.kbs.sealed_secrets import seal
from tests.fuzz.mutation import check_mutated
from tests.fuzz.trials import Trials, run

COUNTER = counter_uri("shop", "data")
PART = encode_base64(bytes(range(60)))
BLOCK = f"-----BEGIN CERTIFICATE-----\n{PART}\n-----END CERTIFICATE-----\n"
IDENTITY = BLOCK.replace("CERTIFICATE", "PRIVATE KEY") + 2 * BLOCK
ENVELOPE = Envelope(
    uri=ResourceUri("ccinit", "shop", "key"),
    kind=EnvelopeKind.VOLUME_KEY,
    data=bytes(range(64)),
    create=True,
)
CLAIMS = b'{"exp":1800000000}'
SEEDS = (
    encode_envelope(ENVELOPE),
    IDENTITY.encode(),
    encode_counter_reply(CounterReply(uri=COUNTER, counter=7)),
    encode_counter_advance(CounterAdvance(to=8, holder=bytes(HOLDER_BYTES))),
    seal().encode(),
    b"kbs-session-id=0123abcd; Expires=Thu, 26 Nov 2026 12:00:00 GMT; Path=/kbs/v0; Secure",
    f"h.{encode_base64url(CLAIMS)}.s".encode(),
    f'{{"val":"{PART}","iat":"{PART}","signature":"{PART}"}}'.encode(),
)
NOISE = (
    *(b"\\ud800", b"1e400", b"-0", b"NaN", b"\0", b"\x85", b"\xe2\x80\xa8", b"=", b"==", b'"'),
    *(b"{", b"[" * 40, b"; ", b"\r\n", b"-----", b"kbs:///", b"/../", b'"v":1,', b"true", b"."),
)


def check(data: bytes) -> None:
    """Check the invariant for each reader."""
    attempt(parse_envelope, data, lambda found: check_equal(parse_envelope, found, encode_envelope))
    attempt(parse_tls_identity, data, check_identity)
    attempt(lambda body: verify_counter_reply(body, COUNTER), data)
    attempt(
        parse_counter_advance,
        data,
        lambda found: check_equal(parse_counter_advance, found, encode_counter_advance),
    )
    attempt(parse_verifier_nonce, data)
    text = data.decode("utf-8", "replace")
    attempt(lambda value: parse_sealed_secret(value, "secret"), text)
    attempt(lambda value: token_seconds(value, 1_700_000_000), text)
    headers = (("set-cookie", text), ("date", text))
    attempt(parse_session_cookie, HttpReply(status=200, headers=headers, body=b"", date=0))


def attempt(
    read: Callable[..., object], data: object, then: Callable[..., object] = lambda _value: None
) -> None:
    """Read, and go on with what was read; only our own errors may come."""
    with contextlib.suppress(CcinitError):
        then(read(data))


def check_equal(
    read: Callable[[bytes], object], found: object, encode: Callable[..., bytes]
) -> None:
    assert read(encode(found)) == found


def check_identity(found: object) -> None:
    chain = found.chain_der  # type: ignore[attr-defined]
    assert 1 <= len(chain) <= MAX_CERTIFICATES


def main(seconds: float, seed: int) -> int:
    """Check texts for a while; return how many."""
    return check_mutated(check, SEEDS, NOISE, Trials(seconds, seed))


if __name__ == "__main__":
    run(main)
