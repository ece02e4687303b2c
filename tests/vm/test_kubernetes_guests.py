"""The demo's pod as a Pod of real Kubernetes: a kubelet's probes, logs and orderly end.

Runs where `CCINIT_KUBERNETES` names a folder with its programs (CONTRIBUTING.md), and an etcd is
installed.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chain import pod, world
from tests.chain.owner_log import read_log
from tests.chain.world import World
from tests.fakes.documents.oci_bundles import encode_annotation
from tests.integration.host.cgroups import bytes_in, limit_in, made_cgroup, memory_hierarchy
from tests.integration.host.containerd import PAUSE, containerd_in, containerd_major
from tests.integration.host.cri import import_image
from tests.integration.host.kubernetes import (
    BINARIES,
    GATEWAY,
    Cluster,
    cluster_of,
    make_node,
    wait_for,
)
from tests.integration.host.pod_network import Network, forwarded, namespace, network_path
from tests.integration.leftovers import short_folder
from tests.integration.net.namespaces import ip
from tests.vm.direct_boot import TOOLS, DirectImage
from tests.vm.engine_world import engine_world, operator_file
from tests.vm.harness.boots import record_boot

pytestmark = [
    pytest.mark.vm,
    pytest.mark.long,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(BINARIES not in os.environ, reason=f"{BINARIES} names no Kubernetes"),
]

RUN_SECONDS, EVENT_SECONDS = 900, 120
CONTAINER_MIB, OVERHEAD_MIB, GUEST_MIB = 100, 1000, 512  # the emulator takes up to 400
MIB = 1 << 20
SUMMARY = "/api/v1/nodes/node/proxy/stats/summary"
RUNTIME_CLASS: Mapping[str, Any] = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "ccinit"},
    "handler": "ccinit",
    "overhead": {"podFixed": {"memory": f"{OVERHEAD_MIB}Mi"}},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The chain's world, and a cluster whose pods can reach it."""

    world: World
    cluster: Cluster

    def apply(self, name: str, document: bytes) -> None:
        """Make a Pod of a document, which the kubelet asks at the pod's own address."""
        at_port = {"port": pod.SERVICE_PORT}
        container = {
            "name": self.world.canaries.container,
            "image": PAUSE,
            # No pod's cgroup has a limit of memory if one of its containers has none.
            "resources": {"limits": {"memory": f"{CONTAINER_MIB}Mi"}},
            "startupProbe": {"tcpSocket": at_port, "failureThreshold": RUN_SECONDS // 10},
            "readinessProbe": {"httpGet": {"path": "/", **at_port}, "timeoutSeconds": 20},
        }
        annotations = {
            "org.ccinit.initdata": encode_annotation(document),
            "org.ccinit.image": "prod-pod",
            "org.ccinit.disks": f"{self.world.volume},{world.DEBUG_TOOLS.absolute()}:ro",
        }
        self.cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "annotations": annotations},
                "spec": {
                    "runtimeClassName": "ccinit",
                    "terminationGracePeriodSeconds": 120,
                    "containers": [container],
                },
            }
        )


@pytest.fixture(scope="module", autouse=True)
def _containerd_that_the_kubelet_knows() -> None:
    major = containerd_major()
    if major != 1:
        pytest.skip(f"the kubelet speaks an older CRI than containerd {major} does")


@pytest.fixture(scope="module")
def scene(prod_image: DirectImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    assert TOOLS.tree is not None
    with ExitStack() as stack:
        folder = stack.enter_context(short_folder())
        cgroup = stack.enter_context(made_cgroup())
        made = stack.enter_context(engine_world(tmp_path_factory.mktemp("world")))
        operator = f'cgroup = "bundle"\n{operator_file(folder, made, prod_image)}'
        network = network_path(stack.enter_context(namespace()))
        make_node(network)
        for port in (made.kbs_port, made.registry.port):
            node = Network(pod="", node=network, address="")
            stack.enter_context(forwarded(node, GATEWAY, port))
        containerd = stack.enter_context(containerd_in(folder, operator, network))
        import_image(containerd)
        cluster = stack.enter_context(cluster_of(containerd, network, cgroup))
        cluster.apply(RUNTIME_CLASS)
        yield Scene(world=made, cluster=cluster)


def test_pod_of_kubernetes_is_ready_by_its_guests_answer_and_ends_in_order(scene: Scene) -> None:
    cluster, made = scene.cluster, scene.world
    scene.apply("wrong", made.initdata.read_bytes().replace(b'kind = "scratch"', b'kind = "x"'))
    wait_for(lambda: "pod.volume.kind" in cluster.events("wrong"), EVENT_SECONDS)
    cluster.kubectl("delete", "pod", "wrong")

    began = time.monotonic()
    scene.apply("shop", made.initdata.read_bytes())
    wait_for(lambda: cluster.ask("shop", ".status.phase") == "Running", EVENT_SECONDS)
    assert cluster.ask("shop", ".status.containerStatuses[0].ready") == "false"
    cluster.stop_kubelet()
    cluster.start_kubelet()
    wait_for(
        lambda: cluster.ask("shop", ".status.containerStatuses[0].ready") == "true", RUN_SECONDS
    )
    assert cluster.ask("shop", ".spec.overhead.memory") == f"{OVERHEAD_MIB}Mi"
    assert cluster.ask("shop", ".status.containerStatuses[0].restartCount") == "0"
    address = cluster.ask("shop", ".status.podIP")
    assert Network(pod="", node=cluster.network, address=address).ask(pod.SERVICE_PORT)
    require_counted(cluster)
    said = cluster.kubectl("logs", "shop").stdout
    assert "phase RUN, code OK" in said
    refused = cluster.kubectl("exec", "shop", "--", "/bin/true")
    assert "[command.refused]" in refused.stderr

    cluster.kubectl("delete", "pod", "shop")
    record_boot("pod of Kubernetes", time.monotonic() - began)
    containerd = cluster.containerd
    wait_for(lambda: pod_cgroups(cluster) == [], EVENT_SECONDS)
    assert list((containerd.folder / "runtimes/k8s.io").iterdir()) == []
    assert "veth" not in ip("-br link", cluster.network)
    (stream,) = containerd.sealed_logs.iterdir()
    log = read_log(made.owner, stream, is_own=True)
    assert log.is_whole, log.report()
    line = made.canaries.log_line
    assert any(line in text for text in log.workload_lines(made.canaries.container))
    assert line not in said + containerd.log


def pod_cgroups(cluster: Cluster) -> list[str]:
    """The cgroups that the kubelet has made for pods."""
    root = memory_hierarchy().root
    found = (root / cluster.cgroup[1:]).glob("**/pod*/")
    return [f"/{path.relative_to(root)}" for path in found]


def require_counted(cluster: Cluster) -> None:
    """Require that the Pod's cgroup, and so the kubelet, counts and bounds its guest."""
    (of_pod,) = pod_cgroups(cluster)
    assert int(limit_in(of_pod).read_text()) == (CONTAINER_MIB + OVERHEAD_MIB) * MIB
    assert bytes_in(of_pod) > GUEST_MIB * MIB // 2

    def kubelet_says() -> int:
        summary = json.loads(cluster.kubectl("get", "--raw", SUMMARY).stdout)
        (found,) = (one for one in summary["pods"] if one["podRef"]["name"] == "shop")
        return int(found.get("memory", {}).get("usageBytes", 0))

    wait_for(lambda: kubelet_says() > GUEST_MIB * MIB // 2, EVENT_SECONDS)
