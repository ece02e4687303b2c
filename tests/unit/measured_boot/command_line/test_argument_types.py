import argparse

import pytest

from measured_boot.command_line.argument_types import seconds, whole_number

NUMBERS = ["", "-1", "+5", " 5", "1_0", "٣", "0x5", "1e1", "1.5", "NaN", "9" * 5000]


@pytest.mark.parametrize("text", [*NUMBERS, "4", "11", "18446744073709551616"])
def test_number_that_is_none_or_out_of_range_is_refused(text: str) -> None:
    parse = whole_number(5, 10)
    assert [parse(good) for good in ("5", "10", "007")] == [5, 10, 7]
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        parse(text)
    assert str(refused.value) == f"expected 5 to 10, found {text[:40]!r}"


@pytest.mark.parametrize("text", ["", "-1", "10.1", "inf", "NaN", "ten"])
def test_seconds_that_are_none_or_out_of_range_are_refused(text: str) -> None:
    parse = seconds(0, 10)
    assert [parse(good) for good in ("0", "0.5", "10", "1e1")] == [0, 0.5, 10, 10]
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        parse(text)
    assert str(refused.value) == f"expected 0 to 10 seconds, found {text!r}"
