"""TCP addresses on command lines: one reading of each, and none of what has two."""

import pytest

from measured_boot.command_line.tcp_address import join_address, parse_port, split_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8443", ("127.0.0.1", 8443)),
        ("kbs.example:65535", ("kbs.example", 65535)),
        ("[::1]:0", ("::1", 0)),
    ],
)
def test_address_is_read_as_it_is_written(text: str, address: tuple[str, int]) -> None:
    assert split_address(text) == address
    assert join_address(*address) == text


def test_port_alone_has_no_host() -> None:
    assert split_address("8443") == split_address(":8443") == ("", 8443)


@pytest.mark.parametrize("text", ["::1", "::1:80", "[::1:80", "::1]:80", "[::1]", "[::1]80", ""])
def test_address_that_could_be_another_is_none(text: str) -> None:
    assert split_address(text) is None


@pytest.mark.parametrize("host", ["a..b", "bad\udcffname", "x" * 64, ".a"])
def test_name_that_no_resolver_can_be_asked_for_is_no_host(host: str) -> None:
    assert split_address(f"{host}:80") is None
    assert split_address("xn--a.b_c.example.:80") == ("xn--a.b_c.example.", 80)


@pytest.mark.parametrize("text", ["", "x", "-1", "+1", "1_0", "65536", "²", "0" * 6, "9" * 5000])
def test_what_is_no_port_is_none(text: str) -> None:
    assert parse_port(text) is None
