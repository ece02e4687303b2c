"""Invariant: a reply that differs from what the KBS sent never decrypts, and its refusal is a
`FormatError` before any decryption or the one `jwe.decrypt` after it, never anything else.

A changed text may still stand for the same reply (white space, the order of members); then the
plaintext is the same. Run as `python -m tests.fuzz.fuzz_jwe [SECONDS [SEED]]`.
"""

import json
import random
from pathlib import Path

from ccinit.attest.jwe import decrypt_jwe, parse_jwe
from ccinit.attest.tee_key import EcTeeKey
from ccinit.errors import CcinitError, FormatError, VerificationError
from tests.fuzz.trials import Trials, run
from tests.vectors.jwe.make_vectors import PLAINTEXT, RECIPIENT, Json, encode

TEXT = Path("tests/vectors/jwe/flattened.json").read_bytes()
GOOD: Json = json.loads(TEXT)
KEY = EcTeeKey(RECIPIENT)
PARSED = parse_jwe(TEXT, KEY.public_jwk)
NAMES = ("zip", "crit", "aad", "epk", "alg", "enc", "iv", "tag", "header", "jku")


def check(data: bytes) -> None:
    """Check the invariant."""
    try:
        plaintext = decrypt_jwe(data, KEY).reveal()
    except (FormatError, VerificationError) as error:
        refused: CcinitError = error
    else:
        assert plaintext == PLAINTEXT
        assert parse_jwe(data, KEY.public_jwk) == PARSED
        return
    if isinstance(refused, FormatError):
        assert refused.reason.startswith(("jwe.", "jwk.")), refused
    else:
        assert str(refused) == "jwe.decrypt: the reply does not decrypt", refused


def mutate_text(source: random.Random) -> bytes:
    """Change the text, whatever it then is."""
    data = bytearray(TEXT)
    for _ in range(source.randrange(1, 4)):
        spot = source.randrange(len(data))
        match source.randrange(3):
            case 0:
                data[spot] = source.choice(b'{}[]",:\\ AZaz09-_=+/\x00\xff')
            case 1:
                del data[spot : spot + source.randrange(1, 30)]
            case _:
                data[spot:spot] = source.choice(
                    (b'"zip":"DEF",', b"[[[[", b"=", b"\\u0000", b"1e9")
                )
    return bytes(data)


def mutate_value(source: random.Random) -> bytes:
    """Change one part or the header, and keep the JSON well-formed."""
    value = dict(GOOD)
    name = source.choice(sorted(GOOD))
    match source.randrange(4):
        case 0:
            value[name] = encode(source.randbytes(source.randrange(64)))
        case 1:
            value[source.choice(NAMES)] = source.choice((None, 1, [], {}, "x", GOOD[name]))
        case 2:
            value[name], value["tag"] = value["tag"], value[name]
        case _:
            header: Json = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "epk": {}}
            header[source.choice(NAMES)] = source.choice((None, "none", [], {"crv": "P-256"}))
            value["protected"] = encode(json.dumps(header).encode())
    return json.dumps(value).encode()


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    check(TEXT)
    trials = Trials(seconds, seed)
    for source in trials:
        check(mutate_text(source))
        check(mutate_value(source))
    return trials.count


if __name__ == "__main__":
    run(main)
