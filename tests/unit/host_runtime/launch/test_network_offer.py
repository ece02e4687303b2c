"""What a guest is offered, by how it is connected; the guest's own check judges each offer."""

from dataclasses import asdict
from ipaddress import ip_address, ip_interface

import pytest

from ccinit.boot.network import verify_offer
from ccinit.boot.network_offer import NetworkOffer as Received
from ccinit.boot.network_offer import NetworkPlan
from host_runtime.launch.network_offer import (
    offer_options,
    offer_pod_interface,
    offer_user_network,
)
from host_runtime.machine.qemu import UserNetwork
from host_runtime.network.interface import PodInterface
from host_runtime.plane.rpc_client import NetworkOffer


def interface(address: str, gateway: str) -> PodInterface:
    return PodInterface(
        index=2,
        name="eth0",
        mac="02:00:00:00:00:01",
        mtu=1450,
        address=ip_interface(address),
        gateway=ip_address(gateway),
    )


def receive(offer: NetworkOffer) -> NetworkPlan:
    return verify_offer(Received(**asdict(offer)))


def test_user_network_is_offered_as_qemu_has_it() -> None:
    plan = receive(offer_user_network(UserNetwork()))
    assert (plan.address, plan.prefix, plan.gateway) == ("10.0.2.15", 24, "10.0.2.2")
    assert (plan.mac, plan.mtu, plan.dns) == ("52:54:00:cc:00:01", 1500, ("10.0.2.3",))


@pytest.mark.parametrize(
    ("address", "gateway", "on_link"),
    [
        ("10.1.0.5/16", "10.1.0.1", False),
        ("10.1.0.5/32", "169.254.1.1", True),
        ("fd00::5/64", "fd00::1", False),
        ("fd00::5/64", "fe80::1", True),
    ],
)
def test_interface_is_offered_as_the_guest_takes_it(
    address: str, gateway: str, *, on_link: bool
) -> None:
    dns = [ip_address("10.96.0.10"), ip_address("fd00::10")]
    plan = receive(offer_pod_interface(interface(address, gateway), dns))
    assert f"{plan.address}/{plan.prefix}" == address
    assert (plan.gateway, plan.gateway_on_link) == (gateway, on_link)
    assert (plan.mac, plan.mtu) == ("02:00:00:00:00:01", 1450)
    assert plan.dns == ("10.96.0.10", "fd00::10")


def test_words_are_those_of_the_command_that_offers_by_hand() -> None:
    assert offer_options(interface("10.1.0.5/16", "10.1.0.1")) == (
        "--mac 02:00:00:00:00:01 --address 10.1.0.5/16 --gateway 10.1.0.1 --mtu 1450"
    )
