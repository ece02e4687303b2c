"""`StopSignal` of an image: the signal that asks its program to end (image-spec, config.md)."""

import signal

from ccinit.errors import FormatError

_PREFIX = "SIG"
_REAL_TIME = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
_NUMBERS = {
    **signal.Signals.__members__,
    **{f"SIGRTMIN+{number - signal.SIGRTMIN}": number for number in _REAL_TIME},
    **{f"SIGRTMAX-{signal.SIGRTMAX - number}": number for number in _REAL_TIME},
}


def parse_stop_signal(text: str) -> int:
    """Return the signal's number: a name with or without SIG, or a number.

    Real-time signals have names like `RTMIN+3` and `RTMAX-3`. Builders keep the author's spelling
    and engines ignore case, and so does this.

    Raises:
        FormatError: `run.stop_signal`.
    """
    if not text:
        return signal.SIGTERM
    number = None
    if text.isascii():  # the upper case of some non-ASCII letters is ASCII
        if text.isdigit() and len(text) < 3:
            number = int(text)
        else:
            number = _NUMBERS.get(_PREFIX + text.upper().removeprefix(_PREFIX))
    if number is None or not 0 < number <= signal.SIGRTMAX:
        raise FormatError("run.stop_signal", f"{text[:40]!r} is not a signal")
    return number
