"""Which texts are dates of HTTP, and which second each of them is."""

import pytest

from ccinit.net.http_date import parse_http_date


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Tue, 19 Jan 2038 03:14:08 GMT", 2**31),
        ("Sat, 31 Dec 2016 23:59:59 GMT", 1_483_228_799),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
        ("Sun, 01 Jan 2017 00:00:00 GMT", 1_483_228_800),
    ],
)
def test_date_is_seconds(text: str, seconds: int) -> None:
    assert parse_http_date(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Mon, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 36 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 31 Dec 2016 23:59:60 GMT",
        "Sat, 31 Dec 2016 23:59:61 GMT",
        "Sat, 31 Dec 2016 23:58:60 GMT",
        "Sat, 31 Dec 2016 22:59:60 GMT",
        "Sun, 06 Xxx 1994 08:49:37 GMT",
        "sun, 06 nov 1994 08:49:37 GMT",
        "x" * 25 + " GMT",
        "Sun, 06 Nov 199٤ 08:49:37 GMT",
        "Fri, 31 Dec 9999 24:00:00 GMT",
        "1 Jan 99999999999999 0:00 GMT",
    ],
)
def test_other_text_is_no_date(text: str | None) -> None:
    assert parse_http_date(text) is None
