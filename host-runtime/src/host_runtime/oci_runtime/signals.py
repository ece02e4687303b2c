"""What a signal for a container tells its guest: an orderly end, or the end at once. Pure.

Engines stop a container with its image's stop signal, which is how one program wants to be stopped;
a guest knows only one way. Annotation: OCI image-spec 1.1, `conversion.md`.
"""

import signal
from collections.abc import Mapping
from typing import Final

from ccinit.errors import ConfigError
from host_runtime.oci_runtime.host_requests import STOP_SIGNAL

STOP_ANNOTATION: Final = "org.opencontainers.image.stopSignal"
_NOTHING: Final = 0  # only checks whether a process is there
_TOLD: Final = {
    signal.SIGTERM: STOP_SIGNAL,
    signal.SIGINT: STOP_SIGNAL,
    signal.SIGQUIT: STOP_SIGNAL,
    signal.SIGKILL: signal.SIGKILL,
    _NOTHING: _NOTHING,
}
_REAL_TIME: Final = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
_NUMBERS: Final = {
    **signal.Signals.__members__,
    **{f"SIGRTMIN+{number - signal.SIGRTMIN}": number for number in _REAL_TIME},
    **{f"SIGRTMAX-{signal.SIGRTMAX - number}": number for number in _REAL_TIME},
}


def parse_signal(text: str) -> int:
    """Return the number of a signal that is given by number or name, with or without SIG.

    Real-time signals have names like `SIGRTMIN+3`, which stops systemd.

    Raises:
        ValueError: there is none.
    """
    if text.isascii() and text.isdecimal() and int(text) < signal.NSIG:
        return int(text)
    name = text.upper().removeprefix("SIG")
    try:
        return int(_NUMBERS[f"SIG{name}"])
    except KeyError:
        raise ValueError(f"expected a signal's name or number, found {text!r:.40}") from None


def choose_signal(number: int, annotations: Mapping[str, str]) -> int:
    """Translate signal `number`, sent to a container, into the signal for its life.

    Raises:
        ConfigError: `container.signal`: a guest cannot be told this one.
    """
    if number in _TOLD:
        return _TOLD[number]
    if number == _stop_signal(annotations):
        return STOP_SIGNAL
    raise ConfigError(
        "container.signal",
        f"signal {number}: a guest takes TERM, INT, QUIT, its image's (stop) and KILL (end)",
    )


def choose_member_signal(number: int) -> int:
    """Translate signal `number`, sent to a pod's container, into the signal for its guest's life.

    The CRI has no call for signals, so any but KILL and 0 is the STOPSIGNAL of the engine's image
    for the container, which the bundle does not state.
    """
    return number if number in {signal.SIGKILL, _NOTHING} else STOP_SIGNAL


def _stop_signal(annotations: Mapping[str, str]) -> int | None:
    try:
        return parse_signal(annotations.get(STOP_ANNOTATION, ""))
    except ValueError:
        return None
