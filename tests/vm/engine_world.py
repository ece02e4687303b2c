"""The chain's world as guests of engines reach it, and an operator's file for its images.

The pod waits for `start`, the runtime's. Its registry and KBS are on the host's loopback, which
QEMU's user network shows the guest as its gateway.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chain import pod, world
from tests.chain.owner_log import OwnerLog, read_log
from tests.chain.parties import Owner
from tests.chain.show import Show
from tests.chain.world import World, make_world
from tests.integration.free_ports import free_ports
from tests.integration.pull import real_registry
from tests.vm.direct_boot import TOOLS, DirectImage

GATEWAY = "10.0.2.2"
_LINE_SECONDS = 120
_POLL_SECONDS = 1.0
START = """
[start]
by = "host"
"""
OPERATOR = """\
version = 1
log_folder = "{folder}/sealed"
[[image]]
name = "prod"
boot = ["--tools", "{tools}", "--accelerator", "tcg", "--uki", "{images}/ccinit-prod.efi",
        "--tee", "tpm", "--tpm", "{tpm}", "--network", "open"]
[[image]]
name = "prod-pod"
boot = ["--tools", "{tools}", "--accelerator", "tcg", "--uki", "{images}/ccinit-prod.efi",
        "--tee", "tpm", "--tpm", "{tpm}", "--network", "pod"]
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


@contextmanager
def engine_world(folder: Path) -> Iterator[World]:
    """Make the chain's world below `folder`, with KBS and registry where a guest finds them."""
    kbs_port, registry_port = free_ports(2)
    serving = Owner.serving
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pod, "KBS_ADDRESS", GATEWAY)
        patch.setattr(pod, "KBS_PORT", kbs_port)
        patch.setattr(pod, "REGISTRY_ADDRESS", GATEWAY)
        patch.setattr(pod, "REGISTRY_PORT", registry_port)
        patch.setattr(real_registry, "free_port", lambda: registry_port)
        patch.setattr(Owner, "serving", lambda owner: serving(owner, kbs_port))
        with make_world(folder, Show(), edit_config=lambda text, _: text + START) as made:
            yield made


def operator_file(folder: Path, made: World, image: DirectImage) -> str:
    """Return the file of an operator who keeps sealed logs in `folder`."""
    return OPERATOR.format(
        folder=folder,
        tools=TOOLS.tree,
        images=world.IMAGES.absolute(),
        tpm=made.tpms[0].folder,
        image=_absolute(image),
        world=made.folder,
    )


def has_line(made: World, log: OwnerLog) -> bool:
    """Whether a log has what the pod's container writes first."""
    canaries = made.canaries
    return any(canaries.log_line in line for line in log.workload_lines(canaries.container))


def wait_for_line(made: World, stream: Path) -> None:
    """Wait until the owner reads that of a guest: RUN is told before its program writes."""
    deadline = time.monotonic() + _LINE_SECONDS
    while not has_line(made, read_log(made.owner, stream, is_own=False)):
        assert time.monotonic() < deadline
        time.sleep(_POLL_SECONDS)


def _absolute(image: DirectImage) -> DirectImage:
    return DirectImage(
        kernel=image.kernel.absolute(),
        initrd=image.initrd.absolute(),
        command_line=image.command_line,
        root=image.root.absolute(),
    )
