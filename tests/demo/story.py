"""The demo from its first step to its last, in the order in which a user reads it.

Every step is done by the party that would do it, with that party's own commands and parts; nothing
here knows a secret that its party would not have.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ccinit.formats.planes.host_rpc import Code, Phase
from host_runtime.launch.guest import EndReason
from host_runtime.launch.launcher import GuestConfig, boot_guest
from tests.chain import pod, world
from tests.chain.host_view import HostView, look, require_findable
from tests.chain.life import Life, accompany, live, live_together, write_stream
from tests.chain.owner_log import OwnerLog, read_log
from tests.chain.parties import run
from tests.chain.platforms import TrustedPlatform
from tests.chain.show import PartyError, Show
from tests.chain.world import World, make_world, predict
from tests.demo.attacks import (
    SPARE_TPMS,
    Attack,
    Forgeries,
    Outcome,
    Record,
    judge,
    make_forgeries,
    plan_attacks,
    records_of,
)
from tests.demo.phase_table import PhaseRow, plan_rows
from tests.demo.report import Findings, write_report
from tests.demo.visit import visit

REPORT = Path("build/demo/report.json")
WORLD = Path("build/demo/world")
_REQUESTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """An honest guest's life from both sides."""

    life: Life
    log: OwnerLog
    counts: tuple[int, ...]
    accepted: Record


@dataclass(slots=True)
class Story:
    """What is gathered on the way.

    Attributes:
        complaints: what went wrong without ending the run: party and why.
    """

    show: Show
    scene: World
    platform: TrustedPlatform
    view: HostView = field(default_factory=lambda: HostView(sinks={}))
    complaints: list[tuple[str, str]] = field(default_factory=list)


def tell(show: Show, platform: TrustedPlatform = TrustedPlatform.TPM) -> None:
    """Run the whole demo; the files of a run that failed stay for whoever looks for the reason.

    Raises:
        PartyError: a party failed.
    """
    shutil.rmtree(WORLD, ignore_errors=True)
    REPORT.unlink(missing_ok=True)
    WORLD.mkdir(parents=True)
    predicted = _build_image(show, platform)
    with make_world(WORLD.absolute(), show, platform=platform, spare_tpms=SPARE_TPMS) as scene:
        story = Story(show=show, scene=scene, platform=platform)
        show.title("4  The host boots the guest, which goes through its phases")
        with show.step("host", f"put a machine together: OVMF, {platform}, UKI, disks, vsock"):
            first_guest = scene.guest("first", uki=world.IMAGES / platform.uki)
        first, forged = _first_boot(story, first_guest)
        _look_from_both_sides(story, first, predicted)
        show.title("6  How the guest ended, which the host has asked to stop")
        _require_orderly(story, first)
        outcomes = _attack(story, forged, first_guest)
        show.title("8  An honest guest after the attacks, with the volume of the first")
        second = _second_boot(story)
        _require_growth(story, first, second)
        _conclude(story, predicted, (first, second), outcomes)
    shutil.rmtree(WORLD)


def _build_image(show: Show, platform: TrustedPlatform) -> Mapping[str, str]:
    """Step 1. Return what will be measured, by name, as far as it is known before any boot."""
    show.title("1  The guest image")
    with show.step("builder", "build the guest image with mkosi (profiles prod and test)"):
        run("builder", "rootfs-builder", "image", remedy="the builder's message above says why")
    described = json.loads((world.IMAGES / f"ccinit-{platform.profile}.json").read_text())
    show.say("builder", f"root hash {described['root_hash']}")
    for difference in described["differences"]:
        show.say("builder", f"NOT THE LOCKED VERSION: {difference}")
    if platform.simulation is not None:
        for name, value in platform.simulation.quoted.items():
            show.say("builder", f"a simulated launch always has {platform.group} {name} {value}")
        return platform.simulation.quoted
    values = predict(world.IMAGES / platform.uki, WORLD / "predicted.json")
    registers: Mapping[str, str] = json.loads(values.read_text())["pcr"]
    for index, value in registers.items():
        show.say("builder", f"predicted PCR {index:>2} {value}")
    return registers


def _first_boot(story: Story, config: GuestConfig) -> tuple[Boot, Forgeries]:
    """Boot the guest; meanwhile the host, which has a core to spare, forges what it attacks with.

    The thread begins when the guest has been started, because a fork from threads could stop.
    """
    with (
        story.show.step("host", "the guest's life, from power-on to its end"),
        ThreadPoolExecutor(1) as pool,
        boot_guest(config) as guest,
    ):
        forging = pool.submit(make_forgeries, story.scene)
        life = accompany(guest, config, story.show, requests=_REQUESTS)
        forged = forging.result()
    return _examine(story, "first", config, life), forged


def _second_boot(story: Story) -> Boot:
    show, scene = story.show, story.scene
    with show.step("host", "the second guest's life"):
        config = scene.guest("second", uki=world.IMAGES / story.platform.uki)
        life = live(
            config,
            show,
            requests=_REQUESTS,
            visit=lambda guest: story.complaints.extend(visit(show, scene, guest)),
        )
    return _examine(story, "second", config, life)


def _examine(story: Story, name: str, config: GuestConfig, life: Life) -> Boot:
    """Have the owner read the log of an honest guest, and the host search what it has seen."""
    scene = story.scene
    if life.hello_ms is None:
        raise PartyError("guest", f"it never said hello; QEMU reports {life.end}")
    log = read_log(
        scene.owner,
        write_stream(life, scene.folder / f"{name}.stream"),
        binds_initdata=story.platform.binds_initdata,
    )
    if Phase.RUN not in life.reached:
        phase, code = life.last
        raise PartyError("guest", f"{log.report()} (the host saw {phase.name}, {code.name})")
    view = look(config, scene.canaries.by_name())
    story.view += view
    story.complaints += [("host", f"nothing was recorded of {sink}") for sink in view.unheard]
    accepted = [
        record
        for record in records_of(config, scene.owner.audit())
        if record["event"] == "attest" and record["decision"] == "accepted"
    ]
    return Boot(
        life=life,
        log=log,
        counts=tuple(json.loads(answer)["count"] for answer in life.answers),
        accepted=accepted[-1],
    )


def _look_from_both_sides(story: Story, boot: Boot, predicted: Mapping[str, str]) -> None:
    """Step 5."""
    show, scene = story.show, story.scene
    show.title("5  What the owner reads, and what the host has")
    writer = boot.log.verdict["guest"] or "nobody that the evidence could name"
    show.say("owner", f"the log is whole and signed to its end, by: {writer}")
    for line in boot.log.workload_lines(scene.canaries.container):
        show.say("workload", line)
    if not any(
        scene.canaries.log_line in line
        for line in boot.log.workload_lines(scene.canaries.container)
    ):
        story.complaints.append(("guest", "the workload does not show that it got the secret"))
    quoted = {index: boot.accepted[story.platform.group][index] for index in predicted}
    agree = quoted == dict(predicted)
    names = f"{story.platform.group} {', '.join(predicted)}"
    show.say("owner", f"quoted {names}: {'as' if agree else 'NOT as'} predicted")
    if not agree:
        story.complaints.append(("builder", f"predicted {dict(predicted)}, quoted {quoted}"))
    files = (
        scene.owner.folder / "pod.toml",
        scene.owner.state / "resources" / pod.SECRET_URI.removeprefix("kbs:///"),
    )
    texts = boot.log.text() + scene.image_config
    found = require_findable(scene.canaries.by_name(), files, texts)
    show.say("owner", f"control: the search finds {len(found)} forms of the canaries on my side")
    life = boot.life
    numbers = ", ".join(f"{phase.value}:{code:#04x}" for _, phase, code in life.seen)
    show.say("host", f"phase:code  {numbers}")
    show.say("host", f"sealed log  {len(life.stream)} bytes in {len(life.chunks)} blobs")
    show.say("host", f"sinks       {_list_sinks(story.view)}")
    show.say("host", f"canaries    {len(story.view.hits)} found in all of it")


def _require_orderly(story: Story, boot: Boot) -> None:
    ended, codes = boot.life.end, boot.life.codes
    story.show.say("host", f"phase {boot.life.last[0].name}, then {ended}")
    if ended is not EndReason.RESET or codes != {Code.OK}:
        names = sorted(code.name for code in codes)
        story.complaints.append(("guest", f"its orderly stop ended with {ended}, codes {names}"))


def _attack(story: Story, forged: Forgeries, honest: GuestConfig) -> tuple[Outcome, ...]:
    """Step 7."""
    show, scene = story.show, story.scene
    show.title("7  The host attacks")
    with show.step("host", "prepare the attacks"):
        attacks = plan_attacks(scene, forged, honest)
    if not story.platform.binds_initdata:
        show.say(
            "host", "nothing here stops a host that runs what it likes and sends your document"
        )
    for attack in attacks:
        show.say(attack.party, attack.what)
    before = len(scene.owner.audit())  # an attacker may bind what an honest host bound
    lives: dict[str, Life] = {}
    for first in range(0, len(attacks), 2):  # two cores
        pair = attacks[first : first + 2]
        names = " and ".join(attack.party for attack in pair)
        with show.step("host", f"boot the guests of {names}"):
            lives |= live_together({attack.party: attack.config for attack in pair}, show)
    records = scene.owner.audit()[before:]
    outcomes = tuple(judge(attack, lives[attack.party], records) for attack in attacks)
    for attack, outcome in zip(attacks, outcomes, strict=True):
        story.view += look(attack.config, scene.canaries.by_name())
        _tell_outcome(story, outcome)
    released = _count_released(records)
    show.say("owner", f"the audit log has {released} releases during the attacks")
    if released:
        story.complaints.append(("owner", f"{released} resources were released to attackers"))
    own = next(attack for attack in attacks if attack.failing == forged.pod.refusal)
    _read_attackers_log(story, own, lives[own.party], forged)
    return outcomes


def _tell_outcome(story: Story, outcome: Outcome) -> None:
    show, attack = story.show, outcome.attack
    if not outcome.refused:
        show.say("owner", f"{attack.party}: NOT REFUSED as it had to be")
    elif outcome.named:
        show.say("owner", f"{attack.party}: refused for {', '.join(outcome.named)}")
    else:
        show.say("owner", f"{attack.party}: it stopped itself in {attack.where} and asked nobody")
    for complaint in outcome.complaints:
        story.complaints.append(("owner", f"{attack.party} ({attack.what}): {complaint}"))


def _read_attackers_log(story: Story, attack: Attack, life: Life, forged: Forgeries) -> None:
    """The attacker has the key of its own guest's log: it must find nothing but public numbers."""
    scene = story.scene
    stream = write_stream(life, scene.folder / f"{attack.config.folder.name}.stream")
    log = read_log(scene.owner, stream, key=forged.pod.log_key, is_own=False)
    kinds = sorted({entry.kind for entry in log.entries})
    story.show.say(attack.party, f"with my own key I read: {', '.join(kinds)}")
    if not {"code", "evidence"} <= set(kinds) <= {"code", "end", "evidence"}:
        story.complaints.append(("guest", f"before attestation its log has {kinds}"))


def _count_released(records: Sequence[Record]) -> int:
    return sum(record["decision"] == "released" for record in records)


def _require_growth(story: Story, first: Boot, second: Boot) -> None:
    story.show.say("workload", f"the volume counted {first.counts}, then {second.counts}")
    _require_orderly(story, second)
    together = (*first.counts, *second.counts)
    if together != tuple(range(1, len(together) + 1)):
        story.complaints.append(("guest", f"the volume's counter did not go on: {together}"))


def _conclude(
    story: Story, predicted: Mapping[str, str], boots: Sequence[Boot], outcomes: tuple[Outcome, ...]
) -> None:
    """Step 9."""
    show, scene, first = story.show, story.scene, boots[0]
    for complaint in story.view.complaints():
        story.complaints.append(("guest", complaint))
    rows = plan_rows(first.life, first.log)
    _show_tables(show, rows, outcomes, story.view)
    figures = first.log.pid1_figures()
    show.say(
        "guest",
        f"PID 1 has {figures['pss_bytes'] / 1e6:.1f} MB (PSS) with the pod running, and answered "
        f"the host {figures['exec_to_rpc_ms']} ms after its exec",
    )
    findings = Findings(
        phases=(*show.phases, *((f"guest: {row.name}", row.milliseconds) for row in rows)),
        tee=str(first.accepted["tee"]),
        predicted=predicted,
        group=story.platform.group,
        quoted=first.accepted[story.platform.group],
        image_digest=scene.image_digest,
        image_bytes=scene.image_bytes,
        pull_ms=first.log.took_ms(Phase.PULL),
        pss_bytes=figures["pss_bytes"],
        exec_to_rpc_ms=figures["exec_to_rpc_ms"],
        host_view=story.view,
        codes=frozenset(code for boot in boots for code in boot.life.codes),
        tampered=outcomes,
        complaints=tuple(why for _, why in story.complaints),
    )
    write_report(findings, REPORT)
    show.say("demo", f"report: {REPORT}")
    if story.complaints:
        parties = " and ".join(dict.fromkeys(party for party, _ in story.complaints))
        raise PartyError(parties, "; ".join(why for _, why in story.complaints))


def _show_tables(
    show: Show, rows: Sequence[PhaseRow], outcomes: Sequence[Outcome], view: HostView
) -> None:
    show.title("9  Who saw what of the first guest")
    show.table(
        ("phase", "ms", "the host saw", "the owner saw"),
        [(row.name, str(row.milliseconds), row.host, row.owner) for row in rows],
    )
    show.title("Attacks")
    show.table(
        ("attack", "stopped by", "named", "host's code", "released"),
        [
            (
                outcome.attack.what,
                str(outcome.attack.where) if outcome.refused else "NOBODY",
                ", ".join(outcome.named) or "-",
                "none" if outcome.code is None else f"{outcome.code:#04x}",
                str(outcome.released),
            )
            for outcome in outcomes
        ],
    )
    show.title("All that the guests gave to the host, attacks included")
    show.say("host", _list_sinks(view))
    show.say("host", f"canaries found: {len(view.hits)}")


def _list_sinks(view: HostView) -> str:
    return ", ".join(f"{name} {size}" for name, size in view.sinks.items())
