"""What a guest is told by a signal for its container."""

import signal

import pytest

from ccinit.errors import CcinitError
from host_runtime.oci_runtime.signals import (
    STOP_ANNOTATION,
    choose_member_signal,
    choose_signal,
    parse_signal,
)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_that_stop_programs_stop_a_guest(number: int) -> None:
    assert choose_signal(number, {}) == signal.SIGTERM
    assert choose_signal(signal.SIGKILL, {}) == signal.SIGKILL
    assert choose_signal(0, {}) == 0


@pytest.mark.parametrize(
    ("number", "text"), [(28, "28"), (28, "SIGWINCH"), (37, "37"), (1, "hup"), (10, "USR1")]
)
def test_signal_that_an_image_is_stopped_by_stops_its_guest(number: int, text: str) -> None:
    assert choose_signal(number, {STOP_ANNOTATION: text}) == signal.SIGTERM
    for others in ({}, {STOP_ANNOTATION: "15"}, {STOP_ANNOTATION: "no signal"}):
        with pytest.raises(CcinitError) as error:
            choose_signal(number, others)
        assert error.value.reason == "container.signal"


@pytest.mark.parametrize("number", [1, 3, 10, 15, 28, 37])
def test_whatever_a_pods_container_is_stopped_by_stops_its_guest(number: int) -> None:
    assert choose_member_signal(number) == signal.SIGTERM
    assert choose_member_signal(signal.SIGKILL) == signal.SIGKILL
    assert choose_member_signal(0) == 0


def test_killing_stays_what_it_is() -> None:
    assert choose_signal(signal.SIGKILL, {STOP_ANNOTATION: "9"}) == signal.SIGKILL


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("SIGRTMIN+3", 37), ("rtmin+3", 37), ("RTMIN", 34), ("SIGRTMIN+30", 64)),
        *(("SIGRTMAX-27", 37), ("RTMAX", 64), ("SIGRTMAX-30", 34), ("SIGPOLL", 29)),
    ],
)
def test_signals_for_real_time_have_names_as_engines_know_them(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("", "SIG", "NONE", "65", "-1", "\u0661"),
        *("RTMIN+", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN+03", "TERM+1"),
    ],
)
def test_what_is_no_signal_has_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="expected a signal"):
        parse_signal(text)
