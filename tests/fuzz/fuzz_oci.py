"""Invariant: a reference, document, config, challenge or credential file, whatever its text, gives
a value or a `CcinitError` of its own kind; a reference that is taken has the text it came from,
a token goes to no other origin than the registry's, and of a refusal nothing is told but codes.

Run as `python -m tests.fuzz.fuzz_oci [SECONDS [SEED]]`.
"""

import random
from collections.abc import Callable
from urllib.parse import urlsplit

from ccinit.errors import CcinitError
from ccinit.formats.oci.credentials import find_credential
from ccinit.formats.oci.image import (
    ImageIndex,
    parse_image_config,
    parse_image_document,
    select_platform,
)
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.pull.registry.authentication import (
    BearerChallenge,
    parse_token,
    select_challenge,
    token_request,
)
from ccinit.pull.registry.refusal import describe_status
from tests.fakes.images.registry import make_image, make_index, reply
from tests.fuzz.mutation import mutate_json
from tests.fuzz.trials import Trials, run

IMAGE = make_image([b"one", b"two"], config={"Env": ["A=b"], "User": "x", "Cmd": ["/x"]})
REFERENCE = parse_image_reference(f"registry.team.example:5000/team/app@{IMAGE.digest}")
SEEDS = (
    IMAGE.manifest,
    IMAGE.config,
    make_index(IMAGE, platforms=[("linux", "amd64"), ("linux", "arm64")]),
    b'{"auths":{"registry.team.example:5000":{"auth":"YTpi"}}}',
    b'{"token":"abc"}',
    b'{"errors":[{"code":"DENIED","message":"x"},{"code":"NAME_UNKNOWN","detail":{}}]}',
    REFERENCE.text.encode(),
    b'Bearer realm="https://auth.team.example/token",service="s",scope="x"',
    b'Negotiate abc==, Basic realm="x", Bearer realm="https://auth.team.example/token"',
)
WORDS = (b"{}", b"[]", b"null", b"-1", b"1e9", b'""', b"sha256:", b"://", b"@", b'"', b"\\ud800")


def check(data: bytes) -> None:
    """Check the invariant for each reader of untrusted text."""
    for read in (parse_image_config, parse_token):
        attempt(read, data)
    attempt(lambda value: find_credential(value, REFERENCE), data)
    attempt(lambda value: parse_image_document(value, None), data, select)
    text = data.decode("utf-8", "replace")
    attempt(parse_image_reference, text, lambda found: check_equal(found.text, text))
    attempt(lambda value: select_challenge([value]), text, lambda found: attempt(ask, found))
    check_told(describe_status(reply(403, data)))


def attempt(
    read: Callable[..., object], data: object, then: Callable[..., object] = lambda _value: None
) -> None:
    """Read, and go on with what was read; only our own errors may come."""
    try:
        then(read(data))
    except CcinitError:
        return


def check_equal(found: object, expected: object) -> None:
    assert found == expected


def check_told(text: str) -> None:
    """Nothing but the status, and words of capital letters and underscores."""
    codes = text.removeprefix("status 403").removeprefix(" (").removesuffix(")")
    assert text.startswith("status 403")
    assert len(text) < 160
    assert codes == codes.upper()
    assert all(code.replace("_", "A").isalpha() for code in codes.split(", ") if codes)


def select(document: object) -> None:
    if isinstance(document, ImageIndex):
        select_platform(document)


def ask(challenge: object) -> None:
    """The token service stands below the registry's domain and is asked over TLS."""
    if not isinstance(challenge, BearerChallenge):
        return
    url = urlsplit(token_request(challenge, REFERENCE, None).url)
    assert url.scheme == "https"
    assert url.hostname is not None
    assert url.hostname == "team.example" or url.hostname.endswith(".team.example")


def mutate(source: random.Random) -> bytes:
    """Return a seed with something flipped, cut, doubled or replaced; JSON also by value."""
    data = bytearray(source.choice(SEEDS))
    spot = source.randrange(len(data))
    match source.randrange(5):
        case 0:
            data[spot] ^= 1 << source.randrange(8)
        case 1:
            del data[spot:]
        case 2:
            data[spot:spot] = source.choice(WORDS)
        case 3:
            end = spot + source.randrange(20)
            data[spot:end] = source.choice(WORDS)
        case _:
            return mutate_json(source, bytes(data), WORDS)
    return bytes(data)


def main(seconds: float, seed: int) -> int:
    """Check texts for a while; return how many."""
    trials = Trials(seconds, seed)
    for source in trials:
        check(mutate(source))
    return trials.count


if __name__ == "__main__":
    run(main)
