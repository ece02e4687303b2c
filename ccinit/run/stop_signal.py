"""`StopSignal` of an image: the signal that asks its program to end (image-spec, config.md)."""

import signal

from ccinit.errors import FormatError

_PREFIX = "SIG"


def parse_stop_signal(text: str) -> int:
    """Return the signal's number: a name with or without SIG, `RTMIN+n`, or a number.

    Builders keep a name as the author has spelled it and engines read it in any case, so this does.

    Raises:
        FormatError: `run.stop_signal`.
    """
    if not text:
        return signal.SIGTERM
    if not text.isascii():  # some letters of other alphabets have an ASCII one as their capital
        raise FormatError("run.stop_signal", f"{text[:40]!r} is no signal")
    if text.isdigit() and len(text) < 3:
        return _valid(int(text), text)
    name, plus, offset = text.upper().removeprefix(_PREFIX).partition("+")
    number = signal.Signals.__members__.get(_PREFIX + name)
    if number is None or (plus and not (offset.isdigit() and len(offset) < 3)):
        raise FormatError("run.stop_signal", f"{text[:40]!r} is no signal")
    if plus and number != signal.SIGRTMIN:
        raise FormatError("run.stop_signal", f"{text[:40]!r} is no signal")
    return _valid(number + int(offset or 0), text)


def _valid(number: int, text: str) -> int:
    if not 0 < number <= signal.SIGRTMAX:
        raise FormatError("run.stop_signal", f"{text[:40]!r} is no signal")
    return number
