"""Pods by containerd's CRI, as a kubelet makes them: what their bundles mean, what is refused how.

Needs root and the tools tree (`CCINIT_TOOLS`, or build/tools). The machines run nothing; whole
guests are `tests/vm/test_containerd_guests`'.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.documents.guest import POD
from tests.fakes.documents.oci_bundles import INITDATA, encode_annotation, make_document
from tests.integration.host.containerd import silent_containerd
from tests.integration.host.cri import Cri, CriError, CriPod, State, import_image
from tests.integration.host.test_containerd import qemu_of

MORE = """
[[container]]
name = "sidecar"
image = "web"
[[container]]
name = "first"
image = "web"
kind = "init"
"""
DOCUMENT = {INITDATA: encode_annotation(make_document(POD + MORE))}
KILLED = 128 + signal.SIGKILL


@pytest.fixture(scope="module")
def service() -> Iterator[Cri]:
    with silent_containerd() as containerd:
        import_image(containerd)
        service = Cri(containerd=containerd)
        service.wait_until_served()
        yield service


@pytest.fixture
def cri(service: Cri) -> Iterator[Cri]:
    yield service
    service.remove_all()
    assert service.containers == []


def wait_until_gone(cri: Cri, process: int) -> None:
    deadline = time.monotonic() + 90
    while Path(f"/proc/{process}").exists() or cri.containers:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def has_network(qemu: int) -> bool:
    return b"\0-netdev\0user" in Path(f"/proc/{qemu}/cmdline").read_bytes()


def test_containers_of_a_pod_live_as_long_as_its_guest(cri: Cri) -> None:
    other = cri.run_pod("other", {**DOCUMENT, "org.ccinit.image": "mute"})
    others = other.run("web")
    pod = cri.run_pod("shop", DOCUMENT)
    web, sidecar = pod.run("web"), pod.run("sidecar")
    assert pod.is_up()
    assert pod.status(web)[0] is pod.status(sidecar)[0] is State.RUNNING
    assert sorted(cri.containers) == sorted((other.id, others, pod.id, web, sidecar))
    assert has_network(qemu_of(cri.pid(pod.id)))
    assert not has_network(qemu_of(cri.pid(other.id)))
    for container in (web, sidecar):  # no machine, and nothing else but a process that waits
        assert not Path(
            f"/proc/{cri.pid(container)}/task/{cri.pid(container)}/children"
        ).read_text()

    with pytest.raises(CriError, match=r"\[command.refused\]"):
        cri.call("ExecSync", {1: web, 2: ["true"], 3: 5})
    with pytest.raises(CriError, match=r"\[command.refused\]"):
        cri.call("UpdateContainerResources", {1: web, 2: {3: 512}})

    pod.stop_container(web)  # by a signal of its image that no guest knows, and then by KILL
    assert pod.wait_for_end(web) == pod.wait_for_end(sidecar) == KILLED
    pod.wait_until_down()
    with pytest.raises(CriError):
        pod.run("web", attempt=1)
    pod.stop()
    pod.remove()
    assert sorted(cri.containers) == sorted((other.id, others))
    assert other.status(others)[0] is State.RUNNING
    other.stop()
    assert other.status(others) == (State.EXITED, KILLED)


def test_log_of_a_container_has_what_the_host_says_of_the_guest(cri: Cri) -> None:
    pod = cri.run_pod("shop", DOCUMENT)
    web = pod.run("web")
    pod.stop_container(web, 0)
    pod.wait_for_end(web)
    for line in ("web runs in the guest of", "starting QEMU", "ended with the guest"):
        assert line in pod.said("web")


def test_machine_that_dies_fails_every_container(cri: Cri) -> None:
    pod = cri.run_pod("shop", DOCUMENT)
    web, sidecar = pod.run("web"), pod.run("sidecar")
    os.kill(qemu_of(cri.pid(pod.id)), signal.SIGKILL)
    assert pod.wait_for_end(web) == pod.wait_for_end(sidecar) == 1
    pod.wait_until_down()


def test_life_of_the_guest_that_is_killed_ends_every_container(cri: Cri) -> None:
    pod = cri.run_pod("shop", DOCUMENT)
    web, sidecar = pod.run("web"), pod.run("sidecar")
    qemu = qemu_of(cri.pid(pod.id))
    os.kill(cri.pid(pod.id), signal.SIGKILL)
    assert pod.wait_for_end(web) == pod.wait_for_end(sidecar) == KILLED
    pod.wait_until_down()
    pod.stop()
    pod.remove()
    wait_until_gone(cri, qemu)


@pytest.mark.parametrize("is_killed", [False, True])
def test_shim_of_a_pod_ends_with_its_removal(cri: Cri, *, is_killed: bool) -> None:
    pod = cri.run_pod("shop", DOCUMENT)
    web = pod.run("web")
    pod.run("sidecar")
    shim = cri.containerd.shim(pod.id)
    if is_killed:
        pod.stop_container(web, 0)
        pod.wait_until_down()
    pod.stop()
    pod.remove()
    wait_until_gone(cri, shim)


def test_process_that_waits_can_be_replaced_while_the_guest_runs(cri: Cri) -> None:
    pod = cri.run_pod("shop", DOCUMENT)
    web = pod.run("web")
    with pytest.raises(CriError, match=r"\[container.life\]"):
        pod.run("web", attempt=1)
    os.kill(cri.pid(web), signal.SIGKILL)
    assert pod.wait_for_end(web) == KILLED
    assert pod.is_up()
    again = pod.run("web", attempt=2)
    assert pod.status(again)[0] is State.RUNNING
    assert qemu_of(cri.pid(pod.id))


def test_pod_outlives_a_restart_of_containerd(cri: Cri) -> None:
    pod = cri.run_pod("shop", DOCUMENT)
    web = pod.run("web")
    qemu = qemu_of(cri.pid(pod.id))
    cri.containerd.stop()
    cri.containerd.start()
    cri.wait_until_served()
    assert pod.is_up()
    assert pod.status(web)[0] is State.RUNNING
    assert qemu_of(cri.pid(pod.id)) == qemu
    pod.stop_container(web, 0)
    assert pod.wait_for_end(web) == KILLED


def test_pod_ends_with_a_shim_that_is_killed(cri: Cri) -> None:
    pod = cri.run_pod("shop", DOCUMENT)
    web = pod.run("web")
    qemu = qemu_of(cri.pid(pod.id))
    os.kill(cri.containerd.shim(pod.id), signal.SIGKILL)
    wait_until_gone(cri, qemu)
    assert pod.wait_for_end(web)
    pod.wait_until_down()


def test_pod_that_has_lost_shim_and_containerd_ends_with_the_next_containerd(cri: Cri) -> None:
    pod = cri.run_pod("shop", DOCUMENT)
    web = pod.run("web")
    qemu = qemu_of(cri.pid(pod.id))
    shim = cri.containerd.shim(pod.id)
    cri.containerd.stop(signal.SIGKILL)
    os.kill(shim, signal.SIGKILL)
    cri.containerd.start()
    cri.wait_until_served()
    wait_until_gone(cri, qemu)
    assert pod.wait_for_end(web)
    pod.wait_until_down()


@pytest.mark.timeout(300)
def test_container_that_its_guest_does_not_have_is_refused_in_words(cri: Cri) -> None:
    """All in one guest, which takes seconds to start and to end, and goes on after them."""
    pod = cri.run_pod("shop", DOCUMENT)
    wrong: tuple[tuple[str, dict[str, str], str], ...] = (
        ("none", {}, "sandbox.container"),
        ("first", {}, "sandbox.container"),  # an init container, which the guest runs
        ("web", {"org.ccinit.image": "silent"}, "sandbox.annotation"),
        ("web", {INITDATA: encode_annotation(make_document())}, "sandbox.annotation"),
    )
    for attempt, (name, annotations, reason) in enumerate(wrong):
        refuse(pod, pod.create(name, annotations, attempt=attempt), reason)
    terminal = pod.create("web", attempt=len(wrong), has_terminal=True)
    refuse(pod, terminal, "bundle.terminal")
    web = pod.run("web", attempt=len(wrong) + 1)
    assert pod.status(web)[0] is State.RUNNING


def refuse(pod: CriPod, container: str, reason: str) -> None:
    with pytest.raises(CriError, match=rf"\[{reason}\]"):
        pod.start(container)
    assert pod.cri.containers == [pod.id]
    assert pod.is_up()


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ({}, "annotation.initdata"),
        ({**DOCUMENT, "org.ccinit.image": "other"}, "runtime.image"),
        ({**DOCUMENT, "org.ccinit.vcpus": "2"}, "annotation.denied"),
    ],
)
def test_sandbox_that_no_guest_can_be_is_refused_in_words(
    cri: Cri, annotations: dict[str, str], reason: str
) -> None:
    with pytest.raises(CriError, match=rf"\[{reason}\]"):
        cri.run_pod("bad", annotations)
    assert cri.containers == []
