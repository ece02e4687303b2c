"""Invariant: any bytes given to a TDX parser are a value or a `FormatError` with a reason of that
format; what is accepted after a change of the quote's own bytes is not the value from before.

Run as `python -m tests.fuzz.fuzz_tdx [SECONDS [SEED]]`.
"""

import random
from collections.abc import Callable

from ccinit.errors import FormatError
from ccinit.formats.evidence.tdx_quote import parse_qe_report, parse_tdx_quote
from ccinit.formats.evidence.tdx_report import parse_td_report
from tests.fakes.platforms.tdx_device import td_report
from tests.fakes.platforms.tdx_quote import FakeTdx
from tests.fuzz.trials import Trials, run

_V4 = FakeTdx()
SEEDS = (
    *(
        FakeTdx(version=version, body_type=kind).quote(bytes(64))
        for version, kind in ((4, 2), (5, 2), (5, 3))
    ),
    _V4.qe_report(),
    td_report(_V4, bytes(64)),
)
PARSERS: tuple[Callable[[bytes], object], ...] = (parse_tdx_quote, parse_qe_report, parse_td_report)


def parse_or_refuse(parse: Callable[[bytes], object], data: bytes) -> object:
    """Return the value, or None for a refusal of the right family."""
    try:
        return parse(data)
    except FormatError as error:
        refused = error
    assert refused.reason.startswith(("tdx_quote.", "tdx_report.")), refused
    return None


def mutate(source: random.Random, seed: bytes) -> bytes:
    """Change, cut or lengthen, most often where lengths and types are."""
    data = bytearray(seed)
    for _ in range(source.randrange(1, 4)):
        spot = source.choice((0, 4, 48, 632, 764, source.randrange(len(data) + 1)))
        match source.randrange(4):
            case 0:
                del data[spot:]
            case 1:
                data[spot:spot] = source.randbytes(source.randrange(1, 9))
            case 2:
                data[spot : spot + 4] = source.choice((bytes(4), b"\xff" * 4, b"\x01\0\0\0"))
            case _:
                data[spot : spot + 1] = source.randbytes(1)
    return bytes(data)


def main(seconds: float, seed: int) -> int:
    """Check mutations for a while; return how many."""
    trials = Trials(seconds, seed)
    for source in trials:
        changed = mutate(source, source.choice(SEEDS))
        for parse in PARSERS:
            parse_or_refuse(parse, changed)
        quote = parse_or_refuse(parse_tdx_quote, changed)
        if quote is not None:
            # Signed bytes, key and signatures are taken as they are: together with the lengths
            # they make up the quote, so nothing outside of them can have been skipped.
            again = parse_or_refuse(parse_tdx_quote, changed + b"\0")
            assert again == quote
    return trials.count


if __name__ == "__main__":
    run(main)
