"""Guests as containers of real containerd's: the demo's pod by `ctr run`, and one that fails."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ccinit.formats.planes.host_rpc import Code
from host_runtime.oci_runtime.guest_choice import COCO_INITDATA
from rootfs_builder.tools_tree import ToolsTree
from tests.demo import world
from tests.demo.owner_log import read_log
from tests.demo.world import World
from tests.fakes.oci_bundles import encode_annotation
from tests.integration.containerd import Containerd, containerd_in
from tests.vm.direct_boot import TOOLS, DirectImage
from tests.vm.engine_world import engine_world, operator_file
from tests.vm.harness.boots import record_boot

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(2400)]

RUN_SECONDS, END_SECONDS = 900, 180
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The demo's world, and a containerd whose guests can reach it."""

    world: World
    containerd: Containerd

    def run(self, name: str, **annotations: str) -> None:
        """Run the world's document."""
        given = {COCO_INITDATA: encode_annotation(self.world.initdata.read_bytes())}
        given |= {f"org.ccinit.{key}": value for key, value in annotations.items()}
        done = self.containerd.run_guest(name, "--net-host", **given)
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


@pytest.fixture(scope="module")
def scene(prod_image: DirectImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = Path(tempfile.mkdtemp(prefix="ccinit-"))  # short, for containerd's sockets
    assert TOOLS.tree is not None
    with engine_world(tmp_path_factory.mktemp("world")) as made:
        operator = operator_file(folder, made, prod_image)
        with containerd_in(ToolsTree(TOOLS.tree), folder, operator) as containerd:
            yield Scene(world=made, containerd=containerd)
    shutil.rmtree(folder)


def test_pod_runs_through_a_restart_of_containerd_and_stops(scene: Scene) -> None:
    containerd, made = scene.containerd, scene.world
    tools = f"{world.DEBUG_TOOLS.absolute()}:ro"
    began = time.monotonic()
    scene.run("shop", disks=f"{made.volume},{tools}")
    pid, status = containerd.task("shop")
    assert status == "RUNNING"
    containerd.stop()
    containerd.start()
    assert containerd.task("shop") == (pid, "RUNNING")
    scene.wait_for("shop", "phase RUN, code OK")

    containerd("tasks", "kill", "--signal", "TERM", "shop")
    containerd.wait_for("shop", "STOPPED", END_SECONDS)
    record_boot("pod under containerd", time.monotonic() - began)
    assert containerd.delete("shop") == 0
    assert containerd.containers == []
    assert "ended: guest-reset; exit status 0" in scene.said("shop")

    (stream,) = containerd.sealed_logs.glob("shop-*.sealed")
    log = read_log(made.owner, stream)
    assert log.is_whole, log.report()
    lines = log.workload_lines(made.canaries.container)
    assert any(made.canaries.log_line in line for line in lines)
    assert made.canaries.log_line not in scene.said("shop") + containerd.log


def test_guest_that_fails_is_a_task_that_fails(scene: Scene) -> None:
    began = time.monotonic()
    scene.run("bare", image="no-tee")
    scene.containerd.wait_for("bare", "STOPPED", END_SECONDS)
    record_boot("guest without a TEE under containerd", time.monotonic() - began)
    assert scene.containerd.delete("bare") == Code.CONFIG.value, scene.said("bare")
    assert "code CONFIG" in scene.said("bare")
