"""The demo's pod without its scratch disk: images and writable layers in the guest's memory.

The service answers, counts on its volume and ends in order as it does with a disk; the owner's log
says what the images take, and what a container has written beyond the rest is ENOSPC to it.

It ends by itself, and its manifest lets the host know how: whoever stays with the guest has the
container's own exit code. Guests that keep it are in `phase_sweep` and `test_host_plane`.
"""

import json
import re
import time
from dataclasses import dataclass, replace

import pytest

from ccinit.formats.planes.host_rpc import Code, Phase, RpcError
from host_runtime.launch.guest import EndReason, Guest
from host_runtime.plane.exit_watch import ExitWatch
from host_runtime.plane.rpc_client import CallRefusedError
from tests.chain import pod, world
from tests.chain.life import Life, live, owner_address, write_stream
from tests.chain.owner_log import OwnerLog, read_log
from tests.chain.show import Show
from tests.chain.world import make_world
from tests.vm.direct_boot import DirectImage
from tests.vm.harness.boots import record_boot
from tests.vm.owner_visit import PYTHON

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(1800)]

MIB = 1 << 20
MEMORY_MIB, STORE_BYTES = 1024, 320 * MIB
_FILL = """
import errno, os
file = open("/tmp/fill", "wb", buffering=0)
try:
    while True:
        file.write(bytes(1 << 20))
except OSError as error:
    print(errno.errorcode[error.errno], file.tell())
os.unlink("/tmp/fill")
"""
_LISTEN = """
import os, socket
name = os.environ["HOSTNAME"]
rights = next(line for line in open("/proc/self/status") if line.startswith("CapEff:"))
with socket.create_server((name, 80)) as server:
    print(name, *server.getsockname(), rights.split()[1])
"""
EXIT_CODE = 7
EXIT_SECONDS = 90.0
SERVICE = f"""
import os, runpy, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: os._exit({EXIT_CODE}))
sys.argv = ["/srv/service.py", "{pod.SERVICE_PORT}"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""The image's own program, and a way to have it fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """The guest's life from both sides.

    Attributes:
        filled: what a container said of its writes.
        listened: what it said of a server where its name leads, and of its capabilities.
        early: how the host was refused the exit code while the pod ran.
        exit_code: what it was told at the end.
    """

    life: Life
    log: OwnerLog
    filled: str
    listened: str
    early: RpcError
    exit_code: int | None

    def events(self) -> list[str]:
        return [entry.text for entry in self.log.entries if entry.kind == "event"]


@pytest.fixture(scope="module")
def lived(prod_image: DirectImage, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    assert prod_image  # built, and with it the UKI

    def without_scratch(text: str, _canaries: pod.Canaries) -> str:
        args = json.dumps([PYTHON, "-I", "-c", SERVICE])
        text = text.replace("[[container]]\n", "[[container]]\nread_only = false\n")
        text = text.replace('restart = "on-failure"\n', f'restart = "never"\nargs = {args}\n')
        text = text.replace("[allow]\n", "[allow]\nexit_code_to_host = true\n")
        scratch = '[[volume]]\nname = "scratch"\n'
        before, _, after = text.partition(scratch)
        assert after
        return before + after[after.index("[[volume]]") :]

    def with_small_store(text: str, _canaries: pod.Canaries) -> str:
        limits = f"[limits]\nmemory_store_bytes = {STORE_BYTES}\n"
        return text.replace("[limits]\n", limits)

    seen: list[tuple[str, str, RpcError, int | None]] = []
    folder = tmp_path_factory.mktemp("memory")
    with make_world(
        folder, Show(), edit_pod=without_scratch, edit_config=with_small_store
    ) as scene:
        config = scene.guest("memory", uki=world.IMAGES / "ccinit-prod.efi")
        disks = tuple(disk for disk in config.disks if disk.serial != "scratch")
        config = replace(config, disks=disks, memory_mib=MEMORY_MIB)

        def visit(guest: Guest) -> None:
            name, at = scene.canaries.container, owner_address(config)
            filled = scene.owner.ask("exec", name, PYTHON, "-I", "-c", _FILL, at=at)
            listened = scene.owner.ask("exec", name, PYTHON, "-I", "-c", _LISTEN, at=at)
            early = refused_exit_code(guest)
            watch = ExitWatch(guest.client)
            watch.start()
            scene.owner.ask("signal", name, "USR1", at=at)
            seen.append((filled, listened, early, wait_for_code(watch)))

        began = time.monotonic()
        life = live(config, Show(), requests=2, visit=visit)
        record_boot("pod without scratch", time.monotonic() - began)
        stream = write_stream(life, scene.folder / "memory.stream")
        ((filled, listened, early, exit_code),) = seen
        return Lived(
            life=life,
            log=read_log(scene.owner, stream),
            filled=filled,
            listened=listened,
            early=early,
            exit_code=exit_code,
        )


def refused_exit_code(guest: Guest) -> RpcError:
    with guest.client() as client, pytest.raises(CallRefusedError) as caught:
        client.exit_code()
    return caught.value.error


def wait_for_code(watch: ExitWatch) -> int | None:
    """Wait until the watch has it; the guest has two seconds to go then."""
    deadline = time.monotonic() + EXIT_SECONDS
    while watch.code is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return watch.finish()


def test_pod_runs_answers_and_ends_in_order(lived: Lived) -> None:
    assert Phase.RUN in lived.life.reached, lived.log.report()
    assert len(lived.life.answers) == 2
    assert lived.life.codes == {Code.OK, Code.WORKLOAD_EXIT}
    assert lived.life.end is EndReason.RESET
    assert lived.log.is_whole, lived.log.report()


def test_host_has_the_containers_exit_code_at_the_end_and_not_before(lived: Lived) -> None:
    assert lived.early is RpcError.NOT_NOW
    assert lived.exit_code == EXIT_CODE
    (name,) = {entry.source for entry in lived.log.entries if entry.kind == "stdout"}
    assert f"{name}: exit code {EXIT_CODE}" in lived.events()


def test_container_without_rights_serves_where_its_name_leads_on_a_low_port(lived: Lived) -> None:
    assert lived.listened.split() == [pod.POD, "10.0.2.15", "80", "0" * 16]


@pytest.mark.fault_row("R46", "R74")
def test_store_has_what_is_told_and_no_more(lived: Lived) -> None:
    (told,) = (event for event in lived.events() if event.startswith("images take "))
    used, free = map(int, re.findall(r"\d+", told))
    assert used + free == STORE_BYTES
    error, written = lived.filled.split()
    assert error == "ENOSPC"
    assert free - 4 * MIB < int(written) <= free
