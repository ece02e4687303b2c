"""The whole way in one boot of the production image: what the demo shows, as a test.

OVMF, vTPM and UKI; the KBS, the registry and the three disks are real. The second boot and the
attackers are the demo's.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.planes.host_rpc import Code, Phase
from ccinit.formats.tcg.aael import AaelEvent
from ccinit.formats.tcg.event_log import Algorithm
from host_runtime.host_view.search import Hit, encode_canary, find_canaries
from host_runtime.host_view.sinks import DiskSink
from host_runtime.launch.guest import EndReason
from host_runtime.launch.launcher import GuestConfig
from host_runtime.machine.disks import create_sparse_disk
from measured_boot.prediction import UkiBoot, predict
from tests.chain import pod, world
from tests.chain.host_view import look, require_findable
from tests.chain.life import Life, live, write_stream
from tests.chain.owner_log import OwnerLog, read_log
from tests.chain.show import Show
from tests.chain.world import World, make_world
from tests.faults.plugin import FaultSeen
from tests.vm.debug_visit import DebugVisit, visit_debug
from tests.vm.direct_boot import BOOT_TEST_SECONDS, DirectImage
from tests.vm.harness.boots import record_boot
from tests.vm.owner_copies import require_told
from tests.vm.owner_visit import WORDS, Visit, visit_pod
from tests.vm.phase_sweep import sweep

IMAGE_LINE = b'server_version = "counter"'
"""A line of the pod's program: the image is on scratch, and so is the file."""

MOMENT = timedelta(minutes=2)
"""More than a guest takes from its appraisal to its last resource."""

pytestmark = [pytest.mark.vm, pytest.mark.timeout(BOOT_TEST_SECONDS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One life, from both sides."""

    scene: World
    config: GuestConfig
    life: Life
    log: OwnerLog
    visit: Visit
    debug: DebugVisit
    swept: frozenset[Phase]

    @property
    def answers(self) -> list[Mapping[str, object]]:
        return [json.loads(answer) for answer in self.life.answers]


@pytest.fixture(scope="module")
def chain(
    prod_image: DirectImage, pod_image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Chain:
    assert prod_image  # built, and with it the UKI
    folder = tmp_path_factory.mktemp("chain")
    show = Show()
    encryption = ImageEncryption.REQUIRED  # the demo and other boots pull a plain image
    with make_world(folder, show, layout=pod_image, encryption=encryption) as scene:
        config = scene.guest("guest", uki=world.IMAGES / "ccinit-prod.efi")
        began = time.monotonic()
        visits: list[tuple[Visit, DebugVisit]] = []
        swept: set[Phase] = set()
        life = live(
            config,
            show,
            requests=2,
            watch=lambda guest: swept.update(sweep(guest)),
            visit=lambda guest: visits.append(
                (visit_pod(scene, guest, config), visit_debug(scene, guest, config))
            ),
        )
        record_boot("the whole chain (prod, UKI)", time.monotonic() - began)
        log = read_log(scene.owner, write_stream(life, folder / "stream"))
        visit, debug = visits[0]
        return Chain(
            scene=scene,
            config=config,
            life=life,
            log=log,
            visit=visit,
            debug=debug,
            swept=frozenset(swept),
        )


LASTING = frozenset(
    {
        Phase.CONFIG,
        Phase.NET,
        Phase.ATTEST,
        Phase.UNLOCK,
        Phase.PULL,
        Phase.RUN,
        Phase.STOP,
    }
)
"""The phases that a host can be sure to see; the others may be over before it asks."""


def test_guest_goes_through_every_phase_and_ends_in_order(chain: Chain) -> None:
    assert chain.life.reached >= LASTING
    assert chain.life.last[1] is Code.OK
    assert chain.life.end is EndReason.RESET


def test_r83_host_asked_everything_in_every_phase_and_got_what_it_may(chain: Chain) -> None:
    """The replies were compared when they came; see `phase_sweep`."""
    assert chain.swept >= LASTING


def test_pod_has_its_secret_and_its_volume(chain: Chain) -> None:
    digest = hashlib.sha256(chain.scene.canaries.secret.encode()).hexdigest()
    assert [answer["secret_sha256"] for answer in chain.answers] == [digest, digest]
    assert [answer["count"] for answer in chain.answers] == [1, 2]
    assert {answer["uid"] for answer in chain.answers} == {10001}


def test_encrypted_image_is_opened_with_a_key_of_the_kbs(chain: Chain) -> None:
    """The pod runs, and its manifest takes no image that is not encrypted."""
    decisions = {
        record["decision"]
        for record in chain.scene.owner.audit()
        if record.get("resource") == pod.IMAGE_KEY_URI
    }
    assert decisions == {"released"}


def test_owner_reads_a_whole_log_with_the_pods_own_lines(chain: Chain) -> None:
    assert chain.log.is_whole, chain.log.report()
    lines = chain.log.workload_lines(chain.scene.canaries.container)
    assert any("counter: count=2" in line for line in lines)


def test_owner_finds_the_boot_of_a_log_in_the_audit_log(chain: Chain) -> None:
    first = next(one.text for one in chain.log.entries if one.kind == "event")
    head = "clock: set to "
    assert first.startswith(head)
    told = datetime.fromisoformat(first.removeprefix(head))
    accepted = [record for record in chain.scene.owner.audit() if record["event"] == "attest"]
    delay = told - datetime.fromisoformat(accepted[0]["time"])
    assert abs(delay) < MOMENT


def test_owner_has_the_guest_prove_what_it_is_while_it_runs(chain: Chain) -> None:
    claims, _, verdict = chain.visit.attest.partition("\n\n")
    verdicts = {line.split()[0]: line.split()[-1] for line in claims.splitlines()[1:]}
    assert {"quote.report_data", "pcr.4", "pcr.8", "pcr.15"} <= verdicts.keys()
    assert set(verdicts.values()) == {"ok"}
    assert verdict.startswith("accepted: image demo (prod), initdata demo\nkey exchange ")


def test_registers_are_quoted_to_the_kbs_as_they_were_predicted(chain: Chain) -> None:
    """The UKI with its root inside; the other boots are `test_measured_boots`'."""
    prediction = predict(UkiBoot(uki=(world.IMAGES / "ccinit-prod.efi").read_bytes()))
    predicted = {str(index): value.hex() for index, value in prediction.registers.items()}
    records = [record for record in chain.scene.owner.audit() if record["event"] == "attest"]
    assert records
    for record in records:
        quoted = record["pcr"]
        assert record["decision"] == "accepted"
        assert {index: quoted[index] for index in predicted} == predicted


def test_owner_acts_in_the_container_that_the_manifest_names(chain: Chain) -> None:
    assert chain.visit.executed == f"10001 {WORDS.decode()[::-1]}\n"
    assert chain.visit.copied == WORDS * 10_000
    assert chain.visit.relayed == "42\n"


def test_secret_rotates_in_the_running_container(chain: Chain) -> None:
    first, second, seen = chain.visit.rotated
    assert (first, second) == ("1 secret files have changed\n", "0 secret files have changed\n")
    assert seen == f"{WORDS.decode()}\n"


def test_owner_sees_what_the_container_uses(chain: Chain) -> None:
    guest, _, header, row = chain.visit.top.splitlines()
    assert guest.startswith("up ")
    values = dict(zip(header.split(), row.replace(" MiB", "").split(), strict=True))
    assert values["CONTAINER"] == chain.scene.canaries.container
    assert (values["STATE"], values["STARTS"], values["OOM"]) == ("running", "1", "0")
    assert values["CPU"].endswith("%")
    assert float(values["MEMORY"]) > 1


def test_owner_is_refused_by_role_and_by_manifest(chain: Chain) -> None:
    assert chain.visit.refusals == {"role": "owner.role", "container": "owner.container"}


def test_owner_reads_logs_events_and_metrics_of_the_running_guest(chain: Chain) -> None:
    assert "counter: count=2" in chain.visit.logs
    events = [json.loads(line)["text"] for line in chain.visit.events.splitlines()]
    assert "phase RUN code OK" in events
    assert any(event.startswith("owner: demo exec (exec): exec ") for event in events)
    assert sum(event.startswith("owner: demo exec (exec) by ") for event in events) >= 5
    metrics = dict(
        line.rsplit(" ", 1) for line in chain.visit.metrics.splitlines() if line[0] != "#"
    )
    name = chain.scene.canaries.container
    assert float(metrics[f'ccinit_container_memory_bytes{{container="{name}"}}']) > 1 << 20
    assert float(metrics[f'ccinit_container_cpu_seconds_total{{container="{name}"}}']) > 0
    assert float(metrics['ccinit_phase_duration_seconds{phase="PULL"}']) > 0
    assert float(metrics["ccinit_evidence_total"]) >= 3
    assert float(metrics["ccinit_pid1_pss_bytes"]) < 30e6


def test_refused_or_forged_grant_leaves_the_pod_and_the_register(chain: Chain) -> None:
    """Each for its own reason; the grant that opens debug takes the same way."""
    assert chain.debug.refusals == {
        "role": "owner.role",
        "absent": "kbs.plugin_internal_error",
        "key": "debug.evidence_key",
        "kind": "envelope.kind",
        "tools": "debug.tools_root",
        "ended": "kbs.plugin_internal_error",
        "too long": "debug.too_long",
    }
    given, withheld = chain.debug.audited, {"absent": "resource.absent", "ended": "mint.expired"}
    assert {case: reason.partition(":")[0] for case, reason in given.items() if reason} == withheld
    answer, attested = chain.debug.spared
    assert answer == "still here\n"
    assert "accepted: image demo (prod)" in attested
    (claim,) = (line.split() for line in attested.splitlines() if line.startswith("pcr.15"))
    assert claim[1:] == ["00" * 32, "00" * 32, "ok"]
    assert (chain.debug.before.phase, chain.debug.before.is_debug) == (Phase.RUN, False)


def test_granted_debug_is_a_shell_over_the_relay_and_one_bit_for_the_host(chain: Chain) -> None:
    status, printed, told = chain.debug.opened
    assert (status, told.count("its pod was stopped")) == (9, 1), told
    lines = printed.splitlines()
    assert lines[:2] == ["0", "python3.13"]
    assert {"debug", "volumes"} <= set(lines)
    assert any(line.endswith("Read-only file system") for line in lines)
    assert lines[-2:] == ["kernel log", "tpm0"]
    before, after = chain.debug.before, chain.debug.after
    assert (after.phase, after.code, after.is_debug) == (before.phase, before.code, True)
    assert after.sequence == before.sequence + 1


def test_pod_is_gone_when_debug_is_open(chain: Chain) -> None:
    mounts = chain.debug.shell
    assert " / erofs ro" in mounts
    for gone in ("ext4", "overlay", "/run/ccinit/volumes"):
        assert gone not in mounts
    assert chain.debug.late == {
        "again": "owner.debug",
        "pod": "owner.not_now",
        "role": "owner.role",
    }


def test_copies_end_with_the_pod_when_debug_opens(chain: Chain) -> None:
    """They had files of the volume open, which is closed nevertheless."""
    require_told(chain.debug.copies)


def test_every_verifier_sees_that_debug_was_opened(chain: Chain) -> None:
    status, printed = chain.debug.claims
    assert status == 1
    (claim,) = (line.split() for line in printed.splitlines() if line.startswith("pcr.15"))
    head = "event for PCR 15: "
    (text,) = (one.text for one in chain.log.entries if one.text.startswith(head))
    domain, operation, content = text.removeprefix(head).split(" ")
    opens = AaelEvent(domain=domain, operation=operation, content=content)
    value = Algorithm.SHA256.hash(bytes(32) + opens.digest(Algorithm.SHA256)).hex()
    assert claim[1:3] == ["00" * 32, value]
    assert claim[-1] != "ok"
    released = [
        record["resource"]
        for record in chain.scene.owner.audit()
        if record["decision"] == "released"
    ]
    assert released[-1] == pod.DEBUG_GRANT_URI


def test_r89_host_saw_no_text_and_no_canary(chain: Chain, fault_seen: FaultSeen) -> None:
    view = look(chain.config, {**chain.scene.canaries.by_name(), "owner's words": WORDS})
    assert view.complaints() == ()
    assert view.sinks["vsock"] > 0
    assert view.sinks["network"] > 0
    fault_seen.host("numbers and ciphertext")


@pytest.mark.parametrize("name", ["scratch", "data"])
def test_r89_raw_disk_holds_no_canary_in_any_form(chain: Chain, name: str, tmp_path: Path) -> None:
    """The file behind each disk, after the guest's end; and beside it a disk without encryption."""
    (path,) = (disk.path for disk in chain.config.disks if disk.serial == name)
    canaries = {**chain.scene.canaries.by_name(), "image": IMAGE_LINE, "volume": WORDS}
    written = DiskSink(images=(path,))
    assert written.bytes_seen() > 1 << 20
    assert find_canaries(canaries, (written,)) == ()

    forms = [
        (canary, encoding, form)
        for canary, content in canaries.items()
        for encoding, form in encode_canary(content).items()
    ]
    planted = create_sparse_disk(tmp_path / "planted", path.stat().st_size)
    with planted.open("r+b") as file:
        for number, (_, _, form) in enumerate(forms):
            file.seek(planted.stat().st_size // len(forms) * number + 17)
            file.write(form)
    assert set(find_canaries(canaries, (DiskSink(images=(planted,)),))) == {
        Hit(sink="disks", canary=canary, encoding=encoding) for canary, encoding, _ in forms
    }


def test_r89_search_finds_the_same_canaries_where_they_are(chain: Chain) -> None:
    owner = chain.scene.owner.folder
    files = [owner / "ccinit.toml", owner / "pod.toml"]
    stored = [path for path in (owner / "kbs").rglob("*") if path.is_file()]
    texts = chain.log.text() + chain.scene.image_config
    assert require_findable(chain.scene.canaries.by_name(), [*files, *stored], texts)
