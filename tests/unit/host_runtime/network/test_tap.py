"""Whose filters of an interface a guest's tap may replace, and how quiet the tap is."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any, Never

import pytest
from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

from ccinit.errors import ConfigError
from host_runtime.network import tap
from host_runtime.network.interface import PodInterface

OURS, THEIRS = 0xCC1 << 16, 0xC000 << 16
TAP = 9
ETH0 = PodInterface(
    index=2,
    name="eth0",
    mac="02:00:00:00:00:01",
    mtu=1450,
    address=ip_interface("10.1.0.5/16"),
    gateway=ip_address("10.1.0.1"),
)


class Netlink:
    """A kernel with one tap, where `eth0` has a qdisc `ingress` with these filters already."""

    def __init__(self, settings: Path, filters: list[int] | None = None) -> None:
        self.filters = filters
        self.code = errno.EEXIST
        self.done: list[str] = []
        self.is_up = self.was_silent = False
        self._settings = settings

    def link_lookup(self, *, ifname: str) -> list[int]:
        return [TAP] if ifname == "ccinit0" else []

    def link(self, _verb: str, *, index: int, mtu: int, state: str) -> None:
        assert (index, mtu, state) == (TAP, 1450, "up")
        self.is_up = True
        self.was_silent = (self._settings / "ccinit0/disable_ipv6").read_text() == "1"

    def tc(self, verb: str, _kind: str, *, index: int, **_rest: Any) -> None:
        if (verb, index) == ("add", 2) and self.filters is not None:
            raise NetlinkError(self.code, "")
        if (verb, index) == ("del", 2):
            self.filters = None
        self.done.append(f"{verb} {index}")

    def get_filters(self, *, index: int, parent: int) -> list[dict[str, int]]:
        assert (index, parent) == (2, 0xFFFF_0000)
        return [{"info": info} for info in self.filters or ()]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Netlink:
    (tmp_path / "ccinit0").mkdir()
    made = Netlink(tmp_path)

    @contextmanager
    def open_netlink() -> Iterator[Netlink]:
        yield made

    monkeypatch.setattr(tap, "open_netlink", open_netlink)
    monkeypatch.setattr(tap, "_SETTINGS", tmp_path)
    return made


def test_tap_is_silent_before_it_is_up(kernel: Netlink) -> None:
    with tap.joined(ETH0):
        assert kernel.is_up
        assert kernel.was_silent
        assert kernel.done == ["add 2", "add 9", "add-filter 2", "add-filter 9"]
    assert kernel.done[-1] == "del 2"


def test_tap_that_cannot_be_silenced_is_given_nothing(kernel: Netlink, tmp_path: Path) -> None:
    (tmp_path / "ccinit0/disable_ipv6").mkdir()  # for whoever is root, what cannot be written
    with pytest.raises(OSError, match="ccinit0/disable_ipv6"), tap.joined(ETH0):
        pytest.fail("the guest would be asked for routers")
    assert kernel.done == []
    assert not kernel.is_up


def test_filters_of_a_killed_runtime_are_replaced(kernel: Netlink) -> None:
    kernel.filters = [OURS | 0x300, OURS | 0x300]
    with tap.joined(ETH0):
        assert kernel.done[:2] == ["del 2", "add 2"]


def test_one_filter_of_somebody_elses_beside_ours_is_left_alone(kernel: Netlink) -> None:
    kernel.filters = [OURS | 0x300, THEIRS | 0x300]
    with pytest.raises(ConfigError) as caught, tap.joined(ETH0):
        pass
    assert caught.value.reason == "network.taken"
    assert kernel.done == []


def test_other_refusal_of_the_kernel_is_no_reason_to_remove_a_filter(kernel: Netlink) -> None:
    kernel.filters, kernel.code = [OURS], errno.EPERM
    with pytest.raises(NetlinkError), tap.joined(ETH0):
        pass
    assert kernel.done == []


def test_end_of_a_guest_is_told_though_no_socket_can_be_had_for_its_interface(
    kernel: Netlink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> Never:
        raise OSError(errno.EMFILE, "descriptors")

    def end() -> None:
        monkeypatch.setattr(tap, "open_netlink", none)
        raise LookupError("how it ended")

    with pytest.raises(LookupError, match="how it ended"), tap.joined(ETH0):
        end()
    assert "del 2" not in kernel.done


def test_step_that_fails_leaves_the_interface_as_it_was(
    kernel: Netlink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def redirect(netlink: Netlink, source: int, _target: int) -> None:
        netlink.done.append(f"add-filter {source}")
        if source == TAP:
            raise NetlinkError(errno.ENOENT, "")

    monkeypatch.setattr(tap, "_redirect", redirect)
    with pytest.raises(NetlinkError), tap.joined(ETH0):
        pass
    assert kernel.done == ["add 2", "add 9", "add-filter 2", "add-filter 9", "del 2"]
