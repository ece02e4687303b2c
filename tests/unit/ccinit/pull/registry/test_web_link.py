import pytest

from ccinit.errors import PeerError
from ccinit.pull.registry.web_link import find_link

GOOD = '</a?n=1>; rel="next"'


@pytest.mark.parametrize(
    "header",
    [
        GOOD,
        "</a?n=1>; rel=next",
        "</a?n=1>;rel=next",
        "</a?n=1> ; REL = Next ;",
        '</a?n=1>; rel="last next"',
        '</a?n=1>; title="a, <b>; rel=\\"prev\\""; rel=next',
        "</a?n=1>; crossorigin; rel=next; rel=prev",
        "</z>; rel=prev, </a?n=1>; rel=next",
        ",, </z>, </a?n=1>; rel=next,",
        "</a?n=1>; rel=next, </b>; rel=next",
    ],
)
def test_link_is_found_in_every_spelling(header: str) -> None:
    assert find_link([header], "next") == "/a?n=1"


def test_link_may_be_in_any_header() -> None:
    assert find_link(["</z>; rel=prev", GOOD], "next") == "/a?n=1"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [""],
        ["</a?n=1>"],
        ["</a?n=1>; rel=prev"],
        ["</a?n=1>; rel=prev; rel=next"],
        ["</a?n=1>; rel=nextish"],
        ['</a?n=1>; title="rel=next"'],
    ],
)
def test_link_of_another_relation_is_none(headers: list[str]) -> None:
    assert find_link(headers, "next") is None


@pytest.mark.parametrize(
    ("header", "detail"),
    [
        ("/a; rel=next", "expected <target>"),
        ("</a; rel=next", "expected <target>"),
        ('</a>; rel="next', "an open quote"),
        ('</a>; rel="next\\"', "an open quote"),
        ("</a> rel=next", "expected a comma between links"),
        ("</a>; rel=ne/xt", "expected a comma between links"),
        (GOOD + " " * 8192, "longer than 8192 bytes"),
    ],
)
def test_header_that_is_malformed_is_refused(header: str, detail: str) -> None:
    with pytest.raises(PeerError) as refused:
        find_link([header], "next")
    assert (refused.value.reason, refused.value.detail) == ("registry.link", detail)
    assert find_link([GOOD], "next") == "/a?n=1"
