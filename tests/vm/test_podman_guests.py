"""Guests as containers of real podman's: the demo's pod from `run` to `rm`, and one that fails.

The pod waits for `start`, the runtime's. Its registry and KBS are on the host's loopback, which
QEMU's user network shows the guest as its gateway.
"""

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
from tests.demo import pod, world
from tests.demo.owner_log import read_log
from tests.demo.parties import Owner
from tests.demo.show import Show
from tests.demo.world import World, make_world
from tests.fakes.oci_bundles import encode_annotation
from tests.integration import registry_fixture
from tests.integration.free_ports import free_ports
from tests.integration.podman import Podman, podman_in
from tests.vm.direct_boot import TOOLS, DirectImage
from tests.vm.harness.boots import record_boot

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(2400)]

GATEWAY = "10.0.2.2"
START = """
[start]
by = "host"
"""
RUN_SECONDS, END_SECONDS = 900, 180
POLL_SECONDS = 1.0
OPERATOR = """\
version = 1
log_folder = "{folder}/sealed"
[[image]]
name = "prod"
boot = ["--tools", "{tools}", "--accelerator", "tcg", "--uki", "{images}/ccinit-prod.efi",
        "--tee", "tpm", "--tpm", "{tpm}", "--network", "open"]
[[image]]
name = "no-tee"
boot = ["--tools", "{tools}", "--accelerator", "tcg", "--kernel", "{image.kernel}",
        "--initrd", "{image.initrd}", "--command-line", "{image.command_line}"]
root = "{image.root}"
[defaults]
image = "prod"
memory_mib = 512
[allow]
annotations = ["initdata", "image", "disks"]
folders = ["{world}", "{images}"]
scratch_bytes = 1073741824
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The demo's world, and a podman whose guests can reach it."""

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
    kbs_port, registry_port = free_ports(2)
    serving, ccinit_toml = Owner.serving, pod.ccinit_toml
    folder = Path(tempfile.mkdtemp(prefix="ccinit-"))  # short, for podman's sockets
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pod, "KBS_ADDRESS", GATEWAY)
        patch.setattr(pod, "KBS_PORT", kbs_port)
        patch.setattr(pod, "REGISTRY_ADDRESS", GATEWAY)
        patch.setattr(pod, "REGISTRY_PORT", registry_port)
        patch.setattr(pod, "ccinit_toml", lambda **values: ccinit_toml(**values) + START)
        patch.setattr(registry_fixture, "free_port", lambda: registry_port)
        patch.setattr(Owner, "serving", lambda owner: serving(owner, kbs_port))
        with make_world(tmp_path_factory.mktemp("world"), Show()) as made:
            assert TOOLS.tree is not None
            operator = OPERATOR.format(
                folder=folder,
                tools=TOOLS.tree,
                images=world.IMAGES.absolute(),
                tpm=made.tpms[0].folder,
                image=absolute(prod_image),
                world=made.folder,
            )
            with podman_in(ToolsTree(TOOLS.tree), folder, operator) as podman:
                yield Scene(world=made, podman=podman)
    shutil.rmtree(folder)


def absolute(image: DirectImage) -> DirectImage:
    return DirectImage(
        kernel=image.kernel.absolute(),
        initrd=image.initrd.absolute(),
        command_line=image.command_line,
        root=image.root.absolute(),
    )


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

    container = podman("inspect", "--format", "{{.Id}}", "shop")
    podman("rm", "shop")
    assert podman("ps", "--all", "--quiet") == ""
    assert list((podman.folder / "state").iterdir()) == []
    (stream,) = podman.sealed_logs.glob(f"{container}-*.sealed")
    log = read_log(made.owner, stream)
    assert log.is_whole, log.report()
    lines = log.workload_lines(made.canaries.container)
    assert any(made.canaries.log_line in line for line in lines)
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
