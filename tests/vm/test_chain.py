"""The whole way in one boot of the production image: what the demo shows, as a test.

OVMF, vTPM and UKI; the KBS, the registry and the three disks are real. The second boot and the
attackers are the demo's.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from ccinit.formats.host_rpc import Code, Phase
from host_runtime.launcher import EndReason, GuestConfig
from tests.demo import world
from tests.demo.host_view import look, require_findable
from tests.demo.life import Life, live, write_stream
from tests.demo.owner_log import OwnerLog, read_log
from tests.demo.show import Show
from tests.demo.world import World, make_world
from tests.vm.direct_boot import DirectImage
from tests.vm.harness.boot import record_boot

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One life, from both sides."""

    scene: World
    config: GuestConfig
    life: Life
    log: OwnerLog

    @property
    def answers(self) -> list[Mapping[str, object]]:
        return [json.loads(answer) for answer in self.life.answers]


@pytest.fixture(scope="module")
def chain(prod_image: DirectImage, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    assert prod_image  # built, and with it the UKI
    folder = tmp_path_factory.mktemp("chain")
    show = Show()
    with make_world(folder, show) as scene:
        config = scene.guest("guest", uki=world.IMAGES / "ccinit-prod.efi")
        began = time.monotonic()
        life = live(config, show, requests=2)
        record_boot("the whole chain (prod, UKI)", time.monotonic() - began)
        log = read_log(scene.owner, write_stream(life, folder / "stream"))
        return Chain(scene=scene, config=config, life=life, log=log)


def test_guest_goes_through_every_phase_and_ends_in_order(chain: Chain) -> None:
    wanted = {
        Phase.CONFIG,
        Phase.NET,
        Phase.ATTEST,
        Phase.UNLOCK,
        Phase.PULL,
        Phase.RUN,
        Phase.STOP,
    }
    assert wanted <= chain.life.reached
    assert chain.life.last[1] is Code.OK
    assert chain.life.end is EndReason.RESET


def test_pod_has_its_secret_and_its_volume(chain: Chain) -> None:
    digest = hashlib.sha256(chain.scene.canaries.secret.encode()).hexdigest()
    assert [answer["secret_sha256"] for answer in chain.answers] == [digest, digest]
    assert [answer["count"] for answer in chain.answers] == [1, 2]
    assert {answer["uid"] for answer in chain.answers} == {10001}


def test_owner_reads_a_whole_log_with_the_pods_own_lines(chain: Chain) -> None:
    assert chain.log.is_whole, chain.log.report()
    lines = chain.log.workload_lines(chain.scene.canaries.container)
    assert any("counter: count=2" in line for line in lines)


def test_host_saw_no_text_and_no_canary(chain: Chain) -> None:
    view = look(chain.config, chain.scene.canaries.by_name())
    assert view.complaints() == ()
    assert view.sinks["vsock"] > 0
    assert view.sinks["network"] > 0


def test_search_finds_the_same_canaries_where_they_are(chain: Chain) -> None:
    owner = chain.scene.owner.folder
    files = [path for path in Path(owner).rglob("*") if path.is_file() and path.suffix == ".toml"]
    stored = [path for path in (owner / "kbs").rglob("*") if path.is_file()]
    assert require_findable(chain.scene.canaries.by_name(), [*files, *stored], chain.log.text())
