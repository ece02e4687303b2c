"""Guests as containers of real podman's: the demo's pod from `run` to `rm`, and one that fails."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ccinit.formats.planes.host_rpc import Code
from host_runtime.oci_runtime.guest_choice import COCO_INITDATA
from tests.chain import world
from tests.chain.owner_log import read_log
from tests.chain.world import World
from tests.fakes.documents.oci_bundles import encode_annotation
from tests.integration.host.podman import Podman, podman_in
from tests.integration.leftovers import short_folder
from tests.vm.direct_boot import TOOLS, DirectImage
from tests.vm.engine_world import engine_world, has_line, operator_file, wait_for_line
from tests.vm.harness.boots import record_boot

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(2400)]

RUN_SECONDS, END_SECONDS = 900, 180
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The chain's world, and a podman whose guests can reach it."""

    world: World
    podman: Podman

    def run(self, name: str, **annotations: str) -> tuple[str | Path, ...]:
        """The words that run the world's document."""
        document = encode_annotation(self.world.initdata.read_bytes())
        given = {COCO_INITDATA: document}
        given |= {f"org.ccinit.{key}": value for key, value in annotations.items()}
        options = (word for key in given for word in ("--annotation", f"{key}={given[key]}"))
        network = ("--network", "host", "--stop-timeout", str(END_SECONDS))
        return "run", "--name", name, *network, *options

    @property
    def program(self) -> tuple[str | Path, ...]:
        """What engines need, and no guest reads."""
        return "--rootfs", self.podman.folder / "rootfs", "/pod"


@pytest.fixture(scope="module")
def scene(prod_image: DirectImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    assert TOOLS.tree is not None
    with short_folder() as folder, engine_world(tmp_path_factory.mktemp("world")) as made:
        operator = operator_file(folder, made, prod_image)
        with podman_in(folder, operator) as podman:
            yield Scene(world=made, podman=podman)


def wait_for(podman: Podman, name: str, text: str, seconds: float) -> None:
    """Wait until a container's log has a line; it has to run meanwhile."""
    deadline = time.monotonic() + seconds
    while text not in (said := podman.run("logs", name).stderr):
        assert podman.state(name, "Status") == "running", said
        assert time.monotonic() < deadline, said
        time.sleep(POLL_SECONDS)


def test_pod_runs_stops_and_is_removed(scene: Scene) -> None:
    podman, made = scene.podman, scene.world
    tools = f"{world.DEBUG_TOOLS.absolute()}:ro"
    began = time.monotonic()
    podman(*scene.run("shop", disks=f"{made.volume},{tools}"), "--detach", *scene.program)
    assert "Up" in podman("ps", "--filter", "name=shop", "--format", "{{.Status}}")
    assert Path(f"/proc/{podman.state('shop', 'Pid')}").exists()
    wait_for(podman, "shop", "phase RUN, code OK", RUN_SECONDS)
    container = podman("inspect", "--format", "{{.Id}}", "shop")
    (stream,) = podman.sealed_logs.glob(f"{container}-*.sealed")
    wait_for_line(made, stream)

    refused = podman.run("exec", "shop", "true")
    assert refused.returncode != 0
    assert "[command.refused]" in refused.stderr
    refused = podman.run("kill", "--signal", "HUP", "shop")
    assert "[container.signal]" in refused.stderr
    assert podman.state("shop", "Status") == "running"

    podman("stop", "shop")
    record_boot("pod under podman", time.monotonic() - began)
    assert podman.state("shop", "Status") == "exited"
    assert podman.state("shop", "ExitCode") == "0"
    said = podman.run("logs", "shop").stderr
    assert "ended: guest-reset; exit status 0" in said
    assert "Exited (0)" in podman("ps", "--all", "--format", "{{.Status}}")

    podman("rm", "shop")
    assert podman("ps", "--all", "--quiet") == ""
    assert list((podman.folder / "state").iterdir()) == []
    log = read_log(made.owner, stream)
    assert log.is_whole, log.report()
    assert has_line(made, log)
    assert made.canaries.log_line not in said


def test_guest_that_fails_is_a_container_that_fails(scene: Scene) -> None:
    began = time.monotonic()
    done = scene.podman.run(*scene.run("bare", image="no-tee"), *scene.program)
    record_boot("guest without a TEE under podman", time.monotonic() - began)
    assert done.returncode == Code.CONFIG.value, done.stderr
    assert "code CONFIG" in done.stderr
    assert scene.podman.state("bare", "ExitCode") == str(Code.CONFIG.value)
    assert "Exited (32)" in scene.podman("ps", "--all", "--format", "{{.Status}}")
    scene.podman("rm", "bare")
