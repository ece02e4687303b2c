"""Quantities of Kubernetes mean what its API reference says, or are refused with what to write."""

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ccinit.errors import FormatError
from guest_owner.kubernetes.quantity import (
    parse_memory,
    parse_processors,
    parse_quantity,
    parse_volume_size,
)

KI, MI, GI, TI = (1 << shift for shift in (10, 20, 30, 40))

MEANINGS: list[tuple[object, Fraction | int]] = [
    ("0", 0),
    ("0Ki", 0),
    ("0n", 0),
    ("1", 1),
    ("+1", 1),
    ("-1Ki", -KI),
    # binary
    ("1Ki", KI),
    ("7Mi", 7 * MI),
    ("6Gi", 6 * GI),
    ("5Ti", 5 * TI),
    ("4Pi", 4 << 50),
    ("3Ei", 3 << 60),
    ("0.5Mi", 512 * KI),
    ("1.5Gi", 1536 * MI),
    ("100.035Ki", Fraction("102435.84")),
    # decimal
    ("5n", Fraction(5, 10**9)),
    ("4u", Fraction(4, 10**6)),
    ("3m", Fraction(3, 1000)),
    ("8k", 8000),
    ("7M", 7_000_000),
    ("6G", 6 * 10**9),
    ("40T", 40 * 10**12),
    ("2P", 2 * 10**15),
    ("1E", 10**18),
    ("12E", 12 * 10**18),
    ("10.035M", 10_035_000),
    # with an exponent
    ("1e3", 1000),
    ("1E6", 10**6),
    ("1E-3", Fraction(1, 1000)),
    ("1.3E+6", 1_300_000),
    ("0.5e-1", Fraction(1, 20)),
    # fractions, with and without digits on both sides
    ("0.5", Fraction(1, 2)),
    ("0.00500", Fraction(1, 200)),
    (".001", Fraction(1, 1000)),
    (".0001k", Fraction(1, 10)),
    ("1.", 1),
    ("1.G", 10**9),
    # as YAML reads what stands without quotes
    (2, 2),
    (0.1, Fraction(1, 10)),
    (1e-05, Fraction(1, 100_000)),
    (1e22, 10**22),
]


@pytest.mark.parametrize(("text", "meaning"), MEANINGS)
def test_quantity_means_exactly_what_it_says(text: object, meaning: Fraction | int) -> None:
    assert parse_quantity(text) == meaning


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "-", "+.", "Mi", "e3", "1.2.3", "1,5", "1_000", "0x10", "\u0661"),
        *(" 1", "1 ", "1\n"),
        *("1K", "1mi", "1ki", "1KiB", "64MB", "1b", "1gi", "1MM", "1e", "1e+", "1e3Ki", "1e1.5"),
        *("inf", "nan", float("inf"), float("nan"), True, None, [1], {"a": 1}, "--1", "+-1"),
        *("9" * 65, 10**64, "1e100", "1e-100", "1e999999999"),
    ],
)
def test_anything_else_is_no_quantity(text: object) -> None:
    assert parse_quantity("9" * 64) == int("9" * 64)
    assert parse_quantity("1e99") == 10**99
    with pytest.raises(FormatError) as caught:
        parse_quantity(text)
    assert caught.value.reason == "kubernetes.quantity"


@pytest.mark.parametrize(
    ("parse", "text", "number"),
    [
        (parse_memory, "64M", 64_000_000),
        (parse_memory, "0.5Gi", 512 * MI),
        (parse_memory, "128974848000m", 128_974_848),
        (parse_memory, "129e6", 129_000_000),
        (parse_memory, "1Ti", TI),
        (parse_volume_size, "64M", 64_000_000),
        (parse_volume_size, "1.5Mi", 3 * MI // 2),
        (parse_processors, 0.5, 500),
        (parse_processors, "500m", 500),
        (parse_processors, "1.005", 1005),
        (parse_processors, "1e1", 10_000),
        (parse_processors, "0.01", 10),
        (parse_processors, 1024, 1_024_000),
    ],
)
def test_numbers_of_a_manifest(parse: object, text: object, number: int) -> None:
    assert callable(parse)
    assert parse(text) == number


@pytest.mark.parametrize(
    ("parse", "text", "instead"),
    [
        (parse_memory, "0.05Gi", "write 53687092"),  # as a cluster rounds it
        (parse_volume_size, "500M", "write 500002816"),
        (parse_processors, "0.0105", "write 11m"),
        (parse_processors, "10500u", "write 11m"),
        (parse_memory, "400m", "from 1Mi to 1Ti"),  # 400 Mi were meant
        (parse_memory, "0", "from 1Mi to 1Ti"),
        (parse_memory, "-1Gi", "from 1Mi to 1Ti"),
        (parse_memory, "9Ei", "from 1Mi to 1Ti"),
        (parse_volume_size, "1k", "from 1Mi to 1Ti"),
        (parse_processors, "1m", "from 10m to 1024"),
        (parse_processors, "2k", "from 10m to 1024"),
    ],
)
def test_what_no_manifest_can_say_is_refused_with_what_to_write(
    parse: object, text: str, instead: str
) -> None:
    assert callable(parse)
    with pytest.raises(FormatError) as caught:
        parse(text)
    assert caught.value.reason == "kubernetes.quantity"
    assert instead in caught.value.detail
    written = instead.removeprefix("write ")
    assert written == instead or parse(written)


@given(some.integers(10, 1_024_000))
def test_every_form_of_one_number_is_that_number(milli: int) -> None:
    forms = (f"{milli}m", f"{milli}e-3", f"{milli * 1000}u", f"{milli // 1000}.{milli % 1000:03}")
    assert {parse_processors(one) for one in forms} == {milli}


@given(some.text("0123456789+-.eEinumkKMGTP", max_size=12))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    with suppress(FormatError):
        assert isinstance(parse_quantity(text), Fraction)
