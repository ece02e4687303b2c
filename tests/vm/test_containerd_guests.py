"""Guests of real containerd's: the demo's pod by `ctr run` and by the CRI, and one that fails."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from ccinit.formats.planes.host_rpc import Code
from host_runtime.oci_runtime.guest_choice import COCO_INITDATA
from tests.chain import pod, world
from tests.chain.owner_log import read_log
from tests.chain.world import World
from tests.fakes.documents.oci_bundles import encode_annotation
from tests.integration.host.containerd import Containerd, containerd_in
from tests.integration.host.cri import Cri, State, import_image
from tests.integration.host.pod_network import forwarded, pod_network
from tests.integration.leftovers import short_folder
from tests.vm.direct_boot import TOOLS, DirectImage
from tests.vm.engine_world import (
    GATEWAY,
    engine_world,
    has_line,
    operator_file,
    wait_for_line,
)
from tests.vm.harness.boots import record_boot

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(2400)]

RUN_SECONDS, END_SECONDS = 900, 180
POLL_SECONDS = 1.0
GUEST = "10.0.2.15"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The chain's world, and a containerd whose guests can reach it."""

    world: World
    containerd: Containerd

    def annotations(self, **ours: str) -> dict[str, str]:
        """The world's document, and more annotations of ours."""
        document = encode_annotation(self.world.initdata.read_bytes())
        return {COCO_INITDATA: document} | {f"org.ccinit.{key}": ours[key] for key in ours}

    @property
    def disks(self) -> str:
        """The disks that the document declares besides scratch."""
        return f"{self.world.volume},{world.DEBUG_TOOLS.absolute()}:ro"

    def run(self, name: str, **annotations: str) -> None:
        """Run the world's document."""
        done = self.containerd.run_guest(name, "--net-host", **self.annotations(**annotations))
        assert done.returncode == 0, done.stderr

    def said(self, name: str) -> str:
        """A container's log."""
        return self.containerd.said(name).read_text()

    def wait_for(self, name: str, text: str) -> None:
        """Wait until a container's log has a line; it has to run meanwhile."""
        deadline = time.monotonic() + RUN_SECONDS
        while text not in self.said(name):
            assert self.containerd.task(name)[1] == "RUNNING", self.said(name)
            assert time.monotonic() < deadline, self.said(name)
            time.sleep(POLL_SECONDS)

    def sealed_log(self, name: str) -> Path:
        """The file in which the host keeps a guest's sealed log."""
        (stream,) = self.containerd.sealed_logs.glob(f"{name}-*.sealed")
        return stream

    def wait_for_line(self, name: str) -> None:
        """Wait until the owner reads what the pod's container writes first."""
        wait_for_line(self.world, self.sealed_log(name))


@pytest.fixture(scope="module")
def scene(prod_image: DirectImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    assert TOOLS.tree is not None
    with short_folder() as folder, engine_world(tmp_path_factory.mktemp("world")) as made:
        operator = operator_file(folder, made, prod_image)
        with containerd_in(folder, operator) as containerd:
            yield Scene(world=made, containerd=containerd)


def test_pod_runs_through_a_restart_of_containerd_and_stops(scene: Scene) -> None:
    containerd = scene.containerd
    began = time.monotonic()
    scene.run("shop", disks=scene.disks)
    pid, status = containerd.task("shop")
    assert status == "RUNNING"
    containerd.stop()
    containerd.start()
    assert containerd.task("shop") == (pid, "RUNNING")
    scene.wait_for("shop", "phase RUN, code OK")
    scene.wait_for_line("shop")

    containerd("tasks", "kill", "--signal", "TERM", "shop")
    containerd.wait_for("shop", "STOPPED", END_SECONDS)
    record_boot("pod under containerd", time.monotonic() - began)
    assert containerd.delete("shop") == 0
    assert containerd.containers == []
    assert "ended: guest-reset; exit status 0" in scene.said("shop")

    require_sealed(scene, "shop", scene.said("shop"))


def test_guest_is_found_at_its_pods_own_address(scene: Scene) -> None:
    """As by Services and probes of a cluster: from the node, at the address that its CNI chose."""
    containerd, made = scene.containerd, scene.world
    with ExitStack() as stack:
        network = stack.enter_context(pod_network(GUEST, GATEWAY))
        for port in (made.kbs_port, made.registry.port):
            stack.enter_context(forwarded(network, GATEWAY, port))
        began = time.monotonic()
        document = scene.annotations(image="prod-pod", disks=scene.disks)
        options = ("--with-ns", f"network:{network.pod}")
        done = containerd.run_guest("apart", *options, **document)
        assert done.returncode == 0, done.stderr
        scene.wait_for("apart", "phase RUN, code OK")
        scene.wait_for_line("apart")
        assert network.ask(pod.SERVICE_PORT)
        containerd("tasks", "kill", "--signal", "TERM", "apart")
        containerd.wait_for("apart", "STOPPED", END_SECONDS)
        record_boot("pod at its own address", time.monotonic() - began)
        assert containerd.delete("apart") == 0, scene.said("apart")
        assert network.is_answered()  # by the pod's namespace again


def test_pod_of_the_cri_runs_and_stops_by_one_of_its_containers(scene: Scene) -> None:
    import_image(scene.containerd)
    cri, container = Cri(containerd=scene.containerd), scene.world.canaries.container
    began = time.monotonic()
    made = cri.run_pod("shop", scene.annotations(disks=scene.disks))
    named = made.run(container)
    deadline = time.monotonic() + RUN_SECONDS
    while "phase RUN, code OK" not in made.said(container):
        assert made.status(named)[0] is State.RUNNING, made.said(container)
        assert time.monotonic() < deadline, made.said(container)
        time.sleep(POLL_SECONDS)
    assert made.is_up()
    scene.wait_for_line(made.id)

    made.stop_container(named, END_SECONDS)
    record_boot("pod by the CRI", time.monotonic() - began)
    assert made.status(named) == (State.EXITED, 0), made.said(container)
    made.wait_until_down()
    assert "ended with the guest; exit status 0" in made.said(container)
    made.stop()
    made.remove()
    assert cri.containers == []
    require_sealed(scene, made.id, made.said(container))


def require_sealed(scene: Scene, name: str, said: str) -> None:
    """Require that a guest's log is whole, and that only its owner has what the pod wrote."""
    log = read_log(scene.world.owner, scene.sealed_log(name))
    assert log.is_whole, log.report()
    assert has_line(scene.world, log)
    assert scene.world.canaries.log_line not in said + scene.containerd.log


def test_guest_that_fails_is_a_task_that_fails(scene: Scene) -> None:
    began = time.monotonic()
    scene.run("bare", image="no-tee")
    scene.containerd.wait_for("bare", "STOPPED", END_SECONDS)
    record_boot("guest without a TEE under containerd", time.monotonic() - began)
    assert scene.containerd.delete("bare") == Code.CONFIG.value, scene.said("bare")
    assert "code CONFIG" in scene.said("bare")
