"""Invariant: an offer becomes a plan of plain unicast addresses, or is refused by its field."""

import ipaddress

import pytest

from ccinit.boot.network import verify_offer
from ccinit.boot.network_offer import NetworkOffer
from ccinit.errors import CcinitError, FormatError
from ccinit.values import replace
from tests.faults.plugin import FaultSeen


def v4(text: str) -> bytes:
    return bytes(10) + b"\xff\xff" + ipaddress.IPv4Address(text).packed


def v6(text: str) -> bytes:
    return ipaddress.IPv6Address(text).packed


OFFER = NetworkOffer(
    mac=bytes.fromhex("525400123456"),
    address=v4("10.0.2.15"),
    prefix=24,
    gateway=v4("10.0.2.2"),
    mtu=1500,
    dns=(v4("10.0.2.3"),),
)


def test_offer_in_ipv4_becomes_a_plan() -> None:
    plan = verify_offer(OFFER)
    assert (plan.mac, plan.address, plan.prefix, plan.gateway) == (
        "52:54:00:12:34:56",
        "10.0.2.15",
        24,
        "10.0.2.2",
    )
    assert plan.resolver_file() == "nameserver 10.0.2.3\n"


def test_offer_in_ipv6_becomes_a_plan() -> None:
    offer = replace(
        OFFER, address=v6("fd00::15"), gateway=v6("fd00::2"), prefix=64, dns=(v6("fd00::3"),)
    )
    plan = verify_offer(offer)
    assert (plan.address, plan.gateway, plan.dns) == ("fd00::15", "fd00::2", ("fd00::3",))


def is_usable(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """What the library says; of two old forms that nobody has any more, the RFCs say no.

    A link-local address of IPv4 says all that is needed to reach it; of IPv6 the link is missing.
    """
    return (address.version == 4 and address.is_link_local) or not (
        address.is_loopback
        or address.is_multicast
        or address.is_unspecified
        or address.is_link_local
        or address.is_reserved
        or address in ipaddress.ip_network("0.0.0.0/8")
        or address in ipaddress.ip_network("fec0::/10")  # site-local, RFC 3879
    )


@pytest.mark.parametrize("rest", [bytes(15), b"\xff" * 15, bytes(14) + b"\x09"])
@pytest.mark.parametrize("first", range(256))
def test_addresses_are_judged_and_written_as_the_library_does(first: int, rest: bytes) -> None:
    raw = bytes((first,))
    for second in (0, 127, 128, 192, 254, 255):
        wide = raw + bytes((second,)) + rest[1:]
        check_server(wide, ipaddress.IPv6Address(wide))
        narrow = raw + bytes((second,)) + rest[-2:]
        check_server(bytes(10) + b"\xff\xff" + narrow, ipaddress.IPv4Address(narrow))


def check_server(raw: bytes, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    offer = replace(OFFER, dns=(raw,))
    if is_usable(address):
        assert verify_offer(offer).dns == (str(address),)
    else:
        with pytest.raises(CcinitError) as caught:
            verify_offer(offer)
        assert caught.value.reason == "net.dns"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"mac": bytes(6)}, "net.mac", id="zero-mac"),
        pytest.param({"mac": b"\xff" * 6}, "net.mac", id="broadcast-mac"),
        pytest.param({"mac": bytes.fromhex("01005e000001")}, "net.mac", id="multicast-mac"),
        pytest.param({"address": v4("127.0.0.1")}, "net.address", id="loopback"),
        pytest.param({"address": v6("::1")}, "net.address", id="loopback-6"),
        pytest.param({"address": v4("224.0.0.1")}, "net.address", id="multicast"),
        pytest.param({"address": v4("0.0.0.0")}, "net.address", id="unspecified"),
        pytest.param({"address": v4("169.254.1.1")}, "net.address", id="link-local"),
        pytest.param({"address": v4("255.255.255.255")}, "net.address", id="broadcast"),
        pytest.param({"address": v4("10.0.2.0")}, "net.address", id="network-address"),
        pytest.param({"address": v4("10.0.2.255")}, "net.address", id="subnet-broadcast"),
        pytest.param(
            {"address": v4("10.0.2.4"), "gateway": v4("10.0.2.5"), "prefix": 30},
            "net.address",
            id="network-address-of-the-narrowest",
        ),
        pytest.param(
            {"address": v4("10.0.2.5"), "gateway": v4("10.0.2.7"), "prefix": 30},
            "net.gateway",
            id="broadcast-of-the-narrowest",
        ),
        pytest.param({"address": v4("0.1.2.3")}, "net.address", id="this-network"),
        pytest.param({"prefix": 0}, "net.prefix", id="everything"),
        pytest.param({"prefix": 7}, "net.prefix", id="too-short"),
        pytest.param({"prefix": 33}, "net.prefix", id="longer-than-ipv4"),
        pytest.param({"prefix": 200}, "net.prefix", id="too-long"),
        pytest.param({"gateway": v4("10.0.3.2")}, "net.gateway", id="elsewhere"),
        pytest.param({"gateway": v4("9.0.2.2"), "prefix": 8}, "net.gateway", id="next-network"),
        pytest.param({"gateway": v4("10.0.2.15")}, "net.gateway", id="itself"),
        pytest.param({"gateway": v4("10.0.2.15"), "prefix": 32}, "net.gateway", id="itself-alone"),
        pytest.param({"gateway": v4("10.0.2.2"), "prefix": 31}, "net.gateway", id="third-of-two"),
        pytest.param({"gateway": v4("169.254.1.1")}, "net.gateway", id="link-local-not-in-subnet"),
        pytest.param({"gateway": v4("127.0.0.1"), "prefix": 32}, "net.gateway", id="this-host"),
        pytest.param({"gateway": v4("224.0.0.1"), "prefix": 32}, "net.gateway", id="many"),
        pytest.param({"gateway": v6("fd00::2")}, "net.gateway", id="other-family"),
        pytest.param({"gateway": v6("fe80::1")}, "net.gateway", id="other-family-on-link"),
        pytest.param(
            {"gateway": v6("fe80::1"), "prefix": 32}, "net.gateway", id="other-family-alone"
        ),
        pytest.param(
            {"address": v6("2001:db8::15"), "gateway": v6("fe80:0:0:1::1"), "prefix": 64},
            "net.gateway",
            id="no-link-local-that-there-is",
        ),
        pytest.param({"gateway": v4("10.0.2.0")}, "net.gateway", id="gateway-is-the-network"),
        pytest.param({"gateway": v4("10.0.2.255")}, "net.gateway", id="gateway-is-everybody"),
        pytest.param({"mtu": 68}, "net.mtu", id="tiny"),
        pytest.param({"mtu": 1279}, "net.mtu", id="less-than-ipv6-needs"),
        pytest.param({"mtu": 65_536}, "net.mtu", id="longer-than-a-packet"),
        pytest.param({"dns": (v4("127.0.0.53"),)}, "net.dns", id="own-resolver"),
        pytest.param({"dns": (v6("fe80::1"),)}, "net.dns", id="resolver-of-no-named-link"),
    ],
)
def test_r96_offer_that_reaches_too_far_is_refused(
    change: dict[str, object], reason: str, fault_seen: FaultSeen
) -> None:
    with pytest.raises(CcinitError) as caught:
        verify_offer(replace(OFFER, **change))
    assert caught.value.reason == reason
    fault_seen.guest(reason)


@pytest.mark.parametrize(
    ("address", "prefix", "gateway"),
    [
        pytest.param(v4("10.9.9.9"), 8, v4("10.0.0.1"), id="widest"),
        pytest.param(v4("10.0.2.5"), 30, v4("10.0.2.6"), id="narrowest-with-a-broadcast"),
        pytest.param(v4("10.0.2.4"), 31, v4("10.0.2.5"), id="two-hosts"),
        pytest.param(v4("10.0.2.5"), 31, v4("10.0.2.4"), id="two-hosts-the-other-way-round"),
        pytest.param(v6("fd00::a"), 127, v6("fd00::b"), id="two-hosts-6"),
    ],
)
def test_offer_may_be_of_the_widest_and_of_the_narrowest_subnet(
    address: bytes, prefix: int, gateway: bytes
) -> None:
    plan = verify_offer(replace(OFFER, address=address, gateway=gateway, prefix=prefix))
    assert (plan.prefix, plan.gateway_on_link) == (prefix, False)


@pytest.mark.parametrize(
    ("address", "prefix", "gateway"),
    [
        pytest.param(v4("10.128.0.2"), 32, v4("10.128.0.1"), id="alone"),
        pytest.param(v4("10.244.7.9"), 32, v4("169.254.1.1"), id="alone-with-a-link-local"),
        pytest.param(v6("fd00::15"), 128, v6("fd01::1"), id="alone-6"),
        pytest.param(v6("fd00::15"), 128, v6("fe80::1"), id="alone-6-with-a-link-local"),
        pytest.param(v6("2001:db8::15"), 64, v6("fe80::1"), id="link-local-router"),
    ],
)
def test_gateway_may_be_on_the_link_and_in_no_subnet(
    address: bytes, prefix: int, gateway: bytes
) -> None:
    plan = verify_offer(replace(OFFER, address=address, gateway=gateway, prefix=prefix))
    assert (plan.prefix, plan.gateway_on_link) == (prefix, True)


@pytest.mark.parametrize(
    "mtu",
    [
        pytest.param(1280, id="least"),
        pytest.param(8896, id="Google"),
        pytest.param(9001, id="AWS"),
        pytest.param(65_520, id="within-a-machine"),
        pytest.param(65_535, id="most"),
    ],
)
def test_packets_may_be_as_long_as_links_have_them(mtu: int) -> None:
    assert verify_offer(replace(OFFER, mtu=mtu)).mtu == mtu


@pytest.mark.parametrize("server", ["169.254.169.254", "169.254.20.10"])
def test_resolver_may_be_where_clouds_and_clusters_have_theirs(server: str) -> None:
    assert verify_offer(replace(OFFER, dns=(v4(server),))).dns == (server,)


@pytest.mark.parametrize("gateway", ["fd00::", "fd00::ffff:ffff:ffff:ffff"])
def test_gateway_of_ipv6_may_be_the_first_or_the_last_of_its_subnet(gateway: str) -> None:
    offer = replace(OFFER, address=v6("fd00::15"), gateway=v6(gateway), prefix=64, dns=())
    assert verify_offer(offer).gateway == gateway


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"address": b"\x7f"}, "net.address", id="address"),
        pytest.param({"gateway": bytes(4)}, "net.gateway", id="gateway"),
        pytest.param({"mac": bytes.fromhex("5254001234567890")}, "net.mac", id="mac"),
        pytest.param({"dns": (bytes(17),)}, "net.dns", id="dns"),
    ],
)
def test_r96_offer_of_another_length_is_malformed(change: dict[str, object], reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        verify_offer(replace(OFFER, **change))
    assert caught.value.reason == reason
