"""A guest takes over the interface that an engine has made for its pod, and gives it back.

The pod's network is `pod_network`; real QEMU makes the tap. The machine runs nothing, so what it is
sent is counted. Guests that answer are
`tests/vm/test_containerd_guests.py`'s. Needs root.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_runtime.programs.process import python_environment
from tests.fakes.documents.oci_bundles import (
    INITDATA,
    encode_annotation,
    make_document,
    podman_config,
)
from tests.integration.host.bare_engine import (
    Engine,
    children_of,
    end,
    open_engine,
    qemu_of,
    reap,
)
from tests.integration.host.pod_network import (
    MAC,
    MTU,
    Network,
    link_up,
    namespace,
    network_path,
    pod_network,
)
from tests.integration.host.silent_machine import silent_operator
from tests.integration.net.namespaces import ip

_SUCCESSION = """
import subprocess
from contextlib import ExitStack
from host_runtime.network.interface import find_interface
from host_runtime.network.tap import joined

def tap(what):
    subprocess.run(("ip", "tuntap", what, "ccinit0", "mode", "tap"), check=True)

def tell():
    command = ("tc", "filter", "show", "dev", "eth0", "ingress")
    shown = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    print("ccinit0" if "ccinit0" in shown else "given-back")

interface = find_interface()
first, second = ExitStack(), ExitStack()
tap("add")
first.enter_context(joined(interface))
tell()
tap("del")
tap("add")
second.enter_context(joined(interface))
tell()
first.close()
tell()
second.close()
tell()
"""
ADDRESS, GATEWAY = "10.88.0.5", "10.88.0.1"
SECONDS = 60.0


@pytest.fixture
def network() -> Iterator[Network]:
    with pod_network(ADDRESS, GATEWAY) as made:
        yield made


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with open_engine(tmp_path) as engine:
        operator = silent_operator(tmp_path, "initdata", "image")
        (tmp_path / "runtime.toml").write_text(operator)
        yield engine


def bundle(engine: Engine, network: Network | None, path: str | None = None) -> str:
    """A bundle of the image "pod", in a namespace or in the host's."""
    annotations = {INITDATA: encode_annotation(make_document()), "org.ccinit.image": "pod"}
    config = podman_config(**annotations)
    config["linux"]["namespaces"] = []
    if network is not None:
        config["linux"]["namespaces"] = [{"type": "network", "path": path or network.pod}]
    return str(engine.bundle(config))


def create(engine: Engine, network: Network | None, name: str = "a") -> int:
    pid_file = engine.folder / f"{name}.pid"
    words = ("create", "--pid-file", str(pid_file), "--bundle", bundle(engine, network), name)
    engine.done(*words)
    return int(pid_file.read_text())


def test_guest_has_the_interface_while_it_runs(engine: Engine, network: Network) -> None:
    wait_for(network.is_answered)
    pid = create(engine, network)
    wait_for(lambda: "UP" in network.links().get("ccinit0", {}).get("flags", []))
    assert f"mac={MAC}," in Path(f"/proc/{qemu_of(pid)}/cmdline").read_text()
    assert network.links()["ccinit0"]["mtu"] == MTU
    wait_for(lambda: network.filters("ccinit0") == ["eth0"])
    assert network.filters("eth0") == ["ccinit0"]
    before = network.redirected("eth0")
    assert not network.is_answered()
    assert network.redirected("eth0") > before
    assert ADDRESS in ip("addr show dev eth0", network.pod)

    assert end(pid, lambda: engine.done("delete", "--force", "a")) == -signal.SIGKILL
    wait_for(lambda: "ccinit0" not in network.links())


def test_interface_is_given_back_at_an_orderly_end(engine: Engine, network: Network) -> None:
    pid = create(engine, network)
    wait_for(lambda: network.filters("eth0") == ["ccinit0"])
    os.kill(qemu_of(pid), signal.SIGTERM)
    wait_for(network.is_answered)
    assert network.filters("eth0") == []


def test_next_guest_takes_over_what_a_killed_one_has_left(engine: Engine, network: Network) -> None:
    pid = create(engine, network)
    wait_for(lambda: network.filters("eth0") == ["ccinit0"])
    end(pid, lambda: engine.done("kill", "a", "KILL"))
    wait_for(lambda: "ccinit0" not in network.links())
    assert network.filters("eth0") == ["*"]  # to nowhere
    create(engine, network, "b")
    wait_for(lambda: network.filters("eth0") == ["ccinit0"])
    engine.done("delete", "a")
    assert network.filters("eth0") == ["ccinit0"]


def test_deletion_gives_back_what_a_killed_guest_has_left(engine: Engine, network: Network) -> None:
    """Not an ingress qdisc of somebody else's, which leads elsewhere."""
    ip("link add eth1 type veth peer name far1", network.pod)
    tc = ("nsenter", f"--net={network.pod}", "tc")
    subprocess.run((*tc, "qdisc", "add", "dev", "eth1", "ingress"), check=True)
    redirect = (
        "filter add dev eth1 ingress u32 match u32 0 0 action mirred egress redirect dev far1"
    )
    subprocess.run((*tc, *redirect.split()), check=True)
    pid = create(engine, network)
    wait_for(lambda: network.filters("eth0") == ["ccinit0"])
    end(pid, lambda: engine.done("kill", "a", "KILL"))
    wait_for(lambda: "ccinit0" not in network.links())
    assert network.filters("eth0") == ["*"]
    assert not network.is_answered()
    engine.done("delete", "a")
    assert network.filters("eth0") == []
    wait_for(network.is_answered)
    assert network.filters("eth1") == ["far1"]


def test_creation_that_fails_late_gives_the_interface_back(
    engine: Engine, network: Network
) -> None:
    """Whoever made the namespace may use it for something else, without any guest."""
    missing = engine.folder / "missing" / "pid"
    words = ("create", "--pid-file", str(missing), "--bundle", bundle(engine, network), "a")
    assert engine.run(*words) == 1
    taken, failed = engine.said().splitlines()[-2:]
    assert taken.endswith("giving the guest the interface eth0")
    assert str(missing.parent) in failed
    assert network.filters("eth0") == []
    wait_for(network.is_answered)


def test_container_is_deleted_though_its_namespace_has_gone(
    engine: Engine, network: Network, tmp_path: Path
) -> None:
    name = tmp_path / "namespace"
    name.touch()
    subprocess.run(("mount", "--bind", network.pod, name), check=True)
    words = ("create", "--bundle", bundle(engine, network, str(name)), "a")
    engine.done(*words)
    wait_for(lambda: network.filters("eth0") == ["ccinit0"])
    subprocess.run(("umount", name), check=True)
    name.unlink()
    engine.done("delete", "--force", "a")
    assert list((tmp_path / "state").iterdir()) == []


def test_second_guest_of_one_interface_is_refused(engine: Engine, network: Network) -> None:
    create(engine, network)
    wait_for(lambda: network.filters("eth0") == ["ccinit0"])
    assert engine.refused("create", "--bundle", bundle(engine, network), "b") == "network.taken"
    assert network.filters("eth0") == ["ccinit0"]


def test_interface_that_somebody_else_directs_is_refused(engine: Engine, network: Network) -> None:
    qdisc = ("nsenter", f"--net={network.pod}", "tc", "qdisc", "add", "dev", "eth0", "ingress")
    subprocess.run(qdisc, check=True)
    assert engine.refused("create", "--bundle", bundle(engine, network), "a") == "network.taken"
    subprocess.run((*qdisc[:4], "del", *qdisc[5:]), check=True)
    create(engine, network)


def test_interface_without_a_way_out_is_refused(engine: Engine, network: Network) -> None:
    ip("route del default", network.pod)
    assert engine.refused("create", "--bundle", bundle(engine, network), "a") == "network.gateway"


def test_resolver_file_is_looked_at_before_the_guest_runs(
    engine: Engine, network: Network, tmp_path: Path
) -> None:
    """A pipe is not waited for, and `create` says so; a host without the file has no nameserver."""
    config = json.loads(Path(bundle(engine, network), "config.json").read_text())
    pipe = tmp_path / "resolv.conf"
    os.mkfifo(pipe)
    config["mounts"] = [{"destination": "/etc/resolv.conf", "source": str(pipe)}]
    words = ("create", "--bundle", str(engine.bundle(config)), "a")
    assert engine.refused(*words) == "bundle.resolver"
    wait_for(network.is_answered)
    pipe.unlink()
    engine.done(*words)
    wait_for(lambda: network.filters("eth0") == ["ccinit0"])


def test_where_there_is_no_interface_qemu_has_a_network_of_its_own(engine: Engine) -> None:
    with namespace() as empty:
        inside = Network(pod=network_path(empty), node="", address="")
        for name, network in (("a", inside), ("b", None)):  # `--network none`, `--network host`
            words = Path(f"/proc/{qemu_of(create(engine, network, name))}/cmdline").read_text()
            assert "user,id=net" in words


def create_apart(engine: Engine, *, image: str = "pod") -> int:
    """Create a container whose bundle asks for a namespace of its own; return its process's id."""
    config = json.loads(Path(bundle(engine, None), "config.json").read_text())
    config["annotations"]["org.ccinit.image"] = image
    config["linux"]["namespaces"] = [{"type": "network"}]
    pid_file = engine.folder / "a.pid"
    words = ("create", "--pid-file", str(pid_file), "--bundle", str(engine.bundle(config)), "a")
    engine.done(*words)
    return int(pid_file.read_text())


def test_interface_that_the_engine_makes_after_create_is_the_guests_from_start_on(
    engine: Engine,
) -> None:
    """As Docker 28 does: it moves the interface into the namespace that `create` has made."""
    pid = create_apart(engine)
    assert children_of(pid) == {}
    with namespace() as node:
        network = link_up(pid, node, ADDRESS, GATEWAY)
        assert network.is_answered()
        engine.done("start", "a")
        wait_for(lambda: network.filters("eth0") == ["ccinit0"])
        assert f"mac={MAC}," in Path(f"/proc/{qemu_of(pid)}/cmdline").read_text()
        assert not network.is_answered()
        assert engine.state("a")["status"] == "running"
        assert end(pid, lambda: engine.done("delete", "--force", "a")) == -signal.SIGKILL


def test_namespace_that_gets_no_interface_leaves_qemu_a_network_of_its_own(engine: Engine) -> None:
    pid = create_apart(engine)
    engine.done("start", "a")
    wait_for(lambda: any(b"qemu-system" in words for words in children_of(pid).values()))
    assert "user,id=net" in Path(f"/proc/{qemu_of(pid)}/cmdline").read_text()


@pytest.mark.parametrize(
    ("reason", "option"),
    [
        ("network.gateway", ""),
        ("boot.kbs", '"--kbs", "127.0.0.1:1"'),  # whose connections would have the guest's address
        ("boot.forward", '"--forward", "18080:80"'),  # which only QEMU's user network has
    ],
)
def test_interface_that_no_guest_can_have_ends_the_container_at_its_start(
    engine: Engine, reason: str, option: str
) -> None:
    file = engine.folder / "runtime.toml"
    file.write_text(file.read_text().replace('"pod"]', f'"pod", {option}]'))
    pid = create_apart(engine)
    created = engine.stderr
    with namespace() as node:
        network = link_up(pid, node, ADDRESS, GATEWAY)
        if reason == "network.gateway":
            ip("route del default", network.pod)
        engine.done("start", "a")
        assert reap(pid) == 1
    assert f"[{reason}]" in created.read_text()
    assert engine.state("a")["status"] == "stopped"


def test_container_that_waits_for_its_start_can_be_stopped(engine: Engine) -> None:
    pid = create_apart(engine)
    created = engine.stderr
    engine.done("kill", "a", "TERM")
    assert reap(pid) == 0
    assert "starting QEMU" not in created.read_text()
    engine.done("delete", "a")


def test_guest_with_another_network_does_not_wait_for_its_start(engine: Engine) -> None:
    assert qemu_of(create_apart(engine, image="silent"))


def test_host_keeps_its_interface_if_a_bundle_names_its_namespace(
    engine: Engine, network: Network
) -> None:
    """As Docker's do for `--network host`."""
    engine.entering = ("nsenter", f"--net={network.pod}")
    words = Path(f"/proc/{qemu_of(create(engine, network))}/cmdline").read_text()
    assert "user,id=net" in words
    wait_for(network.is_answered)
    engine.entering = ()  # to whom it is a pod's
    create(engine, network, "b")
    assert not network.is_answered()


def test_end_of_a_guest_leaves_its_successor_the_interface(network: Network) -> None:
    """The tap goes with QEMU, before the guest's host process has ended."""
    command = ("nsenter", f"--net={network.pod}", sys.executable, "-c", _SUCCESSION)
    told = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **python_environment()},
    ).stdout
    assert told.split() == ["ccinit0", "ccinit0", "ccinit0", "given-back"]
    assert network.filters("eth0") == []


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
