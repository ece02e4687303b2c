"""The demo's pod without its scratch disk: images and writable layers in the guest's memory.

The service answers, counts on its volume and ends in order as it does with a disk; the owner's log
says what the images take, and what a container has written beyond the rest is ENOSPC to it.
"""

import re
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest

from ccinit.formats.planes.host_rpc import Code, Phase
from host_runtime.launcher import EndReason, Guest
from tests.demo import pod, world
from tests.demo.life import Life, live, owner_address, write_stream
from tests.demo.owner_log import OwnerLog, read_log
from tests.demo.show import Show
from tests.demo.world import make_world
from tests.vm.direct_boot import DirectImage
from tests.vm.harness.boot import record_boot

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """The guest's life from both sides, and what a container said of its writes."""

    life: Life
    log: OwnerLog
    filled: str

    def events(self) -> list[str]:
        return [entry.text for entry in self.log.entries if entry.kind == "event"]


@pytest.fixture(scope="module")
def lived(prod_image: DirectImage, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    assert prod_image  # built, and with it the UKI
    manifest, document = pod.pod_toml, pod.ccinit_toml

    def pod_toml(**values: Any) -> str:
        text = manifest(**values).replace("[[container]]\n", "[[container]]\nread_only = false\n")
        scratch = '[[volume]]\nname = "scratch"\n'
        before, _, after = text.partition(scratch)
        assert after
        return before + after[after.index("[[volume]]") :]

    def ccinit_toml(**values: Any) -> str:
        limits = f"[limits]\nmemory_store_bytes = {STORE_BYTES}\n"
        return document(**values).replace("[limits]\n", limits)

    filled = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pod, "pod_toml", pod_toml)
        patch.setattr(pod, "ccinit_toml", ccinit_toml)
        with make_world(tmp_path_factory.mktemp("memory"), Show()) as scene:
            config = scene.guest("memory", uki=world.IMAGES / "ccinit-prod.efi")
            disks = tuple(disk for disk in config.disks if disk.serial != "scratch")
            config = replace(config, disks=disks, memory_mib=MEMORY_MIB)

            def visit(_guest: Guest) -> None:
                words = (scene.canaries.container, "/usr/bin/python3", "-I", "-c", _FILL)
                filled.append(scene.owner.ask("exec", *words, at=owner_address(config)))

            began = time.monotonic()
            life = live(config, Show(), requests=2, visit=visit)
            record_boot("pod without scratch", time.monotonic() - began)
            stream = write_stream(life, scene.folder / "memory.stream")
            return Lived(life=life, log=read_log(scene.owner, stream), filled="".join(filled))


def test_pod_runs_answers_and_ends_in_order(lived: Lived) -> None:
    assert Phase.RUN in lived.life.reached, lived.log.report()
    assert len(lived.life.answers) == 2
    assert lived.life.codes == {Code.OK}
    assert lived.life.end is EndReason.RESET
    assert lived.log.is_whole, lived.log.report()


def test_store_has_what_is_told_and_no_more(lived: Lived) -> None:
    (told,) = (event for event in lived.events() if event.startswith("images take "))
    used, free = map(int, re.findall(r"\d+", told))
    assert used + free == STORE_BYTES
    error, written = lived.filled.split()
    assert error == "ENOSPC"
    assert free - 4 * MIB < int(written) <= free
