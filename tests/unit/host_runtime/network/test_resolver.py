"""Which nameservers of a resolver file a guest is offered."""

from ipaddress import ip_address

from host_runtime.network.resolver import parse_nameservers


def test_nameservers_are_offered_in_order_up_to_three() -> None:
    text = "search example\nnameserver 10.96.0.10\noptions ndots:5\n nameserver\t192.0.2.1 # x\n"
    assert parse_nameservers(text, 4) == (ip_address("10.96.0.10"), ip_address("192.0.2.1"))
    many = "".join(f"nameserver 10.0.0.{last}\n" for last in range(1, 6))
    assert [str(one) for one in parse_nameservers(many, 4)] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert parse_nameservers("nameserver fd00::10\n", 6) == (ip_address("fd00::10"),)


def test_address_that_is_the_namespaces_own_is_left_out() -> None:
    usable = "nameserver 10.96.0.10\nnameserver fd00::10\n"
    for address in ("127.0.0.11", "127.0.0.53", "0.0.0.0", "224.0.0.1"):
        found = parse_nameservers(f"nameserver {address}\n{usable}", 4)
        assert found == (ip_address("10.96.0.10"),)
    for address in ("::1", "::", "fe80::1", "fe80::1%eth0", "ff02::1"):
        found = parse_nameservers(f"nameserver {address}\n{usable}", 6)
        assert found == (ip_address("fd00::10"),)


def test_nameserver_of_the_other_version_takes_no_place() -> None:
    """As an engine writes them for a network of both versions."""
    text = "".join(
        f"nameserver {one}\n" for one in ("fd09::1", "10.89.0.1", "fd09::2", "10.89.0.2")
    )
    assert [str(one) for one in parse_nameservers(text, 4)] == ["10.89.0.1", "10.89.0.2"]
    assert [str(one) for one in parse_nameservers(text, 6)] == ["fd09::1", "fd09::2"]


def test_link_local_address_of_a_clouds_resolver_is_offered() -> None:
    assert parse_nameservers("nameserver 169.254.169.253\n", 4) == (ip_address("169.254.169.253"),)


def test_what_is_no_nameserver_has_no_effect() -> None:
    for line in (
        "",
        "nameserver",
        "nameserver ns.example",
        "#nameserver 10.0.0.1",
        "nameservers 1",
    ):
        assert parse_nameservers(f"{line}\n", 4) == ()
