"""A pod's cgroup, as a kubelet makes it, counts and bounds the guest that containerd runs for it.

Needs root and the tools tree (`CCINIT_TOOLS`, or build/tools). The machines run nothing.
"""

import json
from collections.abc import Iterator

import pytest

from tests.integration.host.cgroups import (
    bytes_in,
    folders_of,
    limit_in,
    made_cgroup,
    processes_in,
)
from tests.integration.host.containerd import CRI_NAMESPACE, silent_containerd
from tests.integration.host.cri import Cri, CriError, import_image
from tests.integration.host.test_containerd import qemu_of
from tests.integration.host.test_cri import DOCUMENT

MIB = 1 << 20


@pytest.fixture
def pods() -> Iterator[str]:
    with made_cgroup() as path:
        yield path


@pytest.fixture
def cri(pods: str) -> Iterator[Cri]:
    assert pods  # made before containerd, so it is removed after the pods
    with silent_containerd('cgroup = "bundle"\n') as containerd:
        import_image(containerd)
        cri = Cri(containerd=containerd)
        cri.wait_until_served()
        yield cri
        cri.remove_all()


def usage(cri: Cri, container: str) -> int:
    """The memory of a container or a sandbox, as containerd reports it."""
    words = ("--namespace", CRI_NAMESPACE, "tasks", "metrics", "--format", "json", container)
    metrics = json.loads(cri.containerd(*words))
    memory = metrics["memory"]
    found = memory["usage"]["usage"] if isinstance(memory["usage"], dict) else memory["usage"]
    return int(found)


def test_pods_cgroup_counts_its_guest_and_nothing_of_it_is_left(cri: Cri, pods: str) -> None:
    pod_cgroup = f"{pods}/pod1"
    for folder in folders_of(pod_cgroup):
        folder.mkdir()
    limit_in(pod_cgroup).write_text(str(127 * MIB))
    with pytest.raises(CriError, match=r"\[cgroup.memory\]"):
        cri.run_pod("shop", DOCUMENT, cgroup=pod_cgroup)
    assert [list(folder.glob("*/")) for folder in folders_of(pod_cgroup)] == [
        [] for _ in folders_of(pod_cgroup)
    ]

    limit_in(pod_cgroup).write_text(str(512 * MIB))
    pod = cri.run_pod("shop", DOCUMENT, cgroup=pod_cgroup)
    web = pod.run("web")
    guest = cri.pid(pod.id)
    assert {guest, qemu_of(guest)} < processes_in(f"{pod_cgroup}/{pod.id}")
    assert processes_in(f"{pod_cgroup}/{web}") == {cri.pid(web)}
    assert usage(cri, pod.id) > 16 * MIB
    assert usage(cri, web) < usage(cri, pod.id) <= bytes_in(pod_cgroup)
    pod.stop()
    pod.remove()
    for folder in folders_of(pod_cgroup):
        folder.rmdir()  # as a kubelet does: nothing is below it
