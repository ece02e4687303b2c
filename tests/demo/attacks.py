"""The host attacks: guests that are not what the owner registered, and what became of them.

Each attack is judged by who stopped it (the guest itself, or the owner's verifier), by the claims
that the KBS's audit log names, and by what was released to it, which has to be nothing. The
registers in the audit log must be those that the *forged* image leads to. This shows that the
forgery was really booted, and that no broken file ended the attack early. What stage 0 stops leaves
no record, so an untampered guest goes the same way as a control, and has to reach the verifier.
`tests.demo.forge` makes the forgeries.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, assert_never

from ccinit.formats.evidence.tee import Tee, initdata_binding
from ccinit.formats.initdata.document import document_digest
from ccinit.formats.planes.host_rpc import Code, Phase
from host_runtime.launch.guest import EndReason
from host_runtime.launch.guest_files import GuestFiles
from host_runtime.launch.launcher import GuestConfig
from rootfs_builder.tools_tree import ToolsTree
from tests.chain import world
from tests.chain.life import Life
from tests.chain.parties import make_log_key
from tests.chain.platforms import TrustedPlatform, claimed_document, claimed_initdata
from tests.chain.published_image import PublishedImage, read_image
from tests.chain.world import World, pack_initdata, predict
from tests.demo import forge

Record = Mapping[str, Any]
SPARE_TPMS = 5
"""How many vTPMs the attacks need besides the honest guest's."""


class Where(StrEnum):
    """Who stops an attack, as the report names it."""

    STAGE0 = "stage0"
    CONFIG = "config"
    VERIFIER = "verifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack, ready to boot.

    Attributes:
        party: what the demo calls its host.
        where: who has to stop it.
        failing: claims that the audit log has to name, no more and no fewer, each with the value
            that it must have got; empty if the guest must not get as far as the KBS.
    """

    party: str
    what: str
    where: Where
    config: GuestConfig
    failing: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an attack; without complaints it was refused as it had to be."""

    attack: Attack
    released: int
    code: Code | None
    named: tuple[str, ...]
    complaints: tuple[str, ...]

    @property
    def refused(self) -> bool:
        """Whether it was stopped where it had to be, and got nothing."""
        return not self.complaints and not self.released


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgedPod:
    """A pod of the attacker's, with a log that the attacker can read."""

    tee: Tee
    initdata: Path
    log_key: Path

    @property
    def disk(self) -> Path:
        """The disk that carries the document."""
        return self.initdata.with_suffix(".img")

    @property
    def refusal(self) -> Mapping[str, str]:
        """What the owner's verifier has to name."""
        algorithm = initdata_binding(self.tee).algorithm
        digest = document_digest(self.initdata.read_bytes(), algorithm)
        return {"initdata.digest": claimed_initdata(self.tee, digest.hex())}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgedImages:
    """Images of the attacker's: another command line, another root.

    Attributes:
        image: the owner's, taken apart.
    """

    image: PublishedImage
    token: Path
    root: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgeries:
    """What takes time to forge; no images where none is measured."""

    pod: ForgedPod
    images: ForgedImages | None


def make_forgeries(scene: World) -> Forgeries:
    """Forge everything that does not depend on a boot."""
    folder = scene.folder / "forged"
    folder.mkdir()
    log_key = folder / "log.key"
    initdata = _forge_initdata(scene, folder, log_key)
    pod = ForgedPod(tee=scene.platform.tee, initdata=initdata, log_key=log_key)
    if scene.platform is not TrustedPlatform.TPM:
        return Forgeries(pod=pod, images=None)
    image = read_image(world.IMAGES, "prod")
    tools = ToolsTree(scene.tools.tree or Path("/"))
    images = ForgedImages(
        image=image,
        token=forge.forge_token(tools, image, folder / "token"),
        root=forge.forge_root(tools, image, folder / "root"),
    )
    return Forgeries(pod=pod, images=images)


def _forge_initdata(scene: World, folder: Path, log_key: Path) -> Path:
    """Pack the owner's document again, with a log key that the attacker has."""
    owner = scene.owner
    own = owner.run("log-key", "public", owner.log_key).split()[-1]
    text = (owner.folder / "ccinit.toml").read_text()
    config = folder / "ccinit.toml"
    config.write_text(text.replace(own, make_log_key(owner, log_key)))
    manifest = owner.folder / "pod.toml"
    return pack_initdata(owner, config, manifest, folder / "initdata.toml", scene.platform.tee)


def plan_attacks(scene: World, forged: Forgeries, honest: GuestConfig) -> tuple[Attack, ...]:
    """Describe the guests of the attackers.

    Args:
        scene: with `SPARE_TPMS` at least, if it has any.
        forged: the files.
        honest: a guest that has ended: its firmware made the boot option that is forged.
    """
    if forged.images is not None:
        return _plan_boot_attacks(scene, forged.images, forged.pod, honest)
    if scene.platform.binds_initdata:
        return _plan_launch_attacks(scene, forged.pod)
    return (_plan_unbound_attack(scene, forged.pod),)


def _plan_launch_attacks(scene: World, pod: ForgedPod) -> tuple[Attack, ...]:
    """What a host can try where it sets a launch field: both times the pod is its own."""
    uki = world.IMAGES / scene.platform.uki
    field = {Tee.SNP: "HOSTDATA", Tee.TDX: "MRCONFIGID"}[scene.platform.tee]
    return (
        Attack(
            party="host a",
            what=f"initdata packed again, beside {field} of the owner's",
            where=Where.CONFIG,
            config=scene.guest("attack-a", uki=uki, initdata_disk=pod.disk, spare=1),
            failing={},
        ),
        Attack(
            party="host b",
            what=f"initdata packed again, with {field} that is its digest",
            where=Where.VERIFIER,
            config=scene.guest(
                "attack-b", uki=uki, initdata_disk=pod.disk, bound=pod.initdata, spare=2
            ),
            failing=pod.refusal,
        ),
    )


def _plan_unbound_attack(scene: World, pod: ForgedPod) -> Attack:
    """All that is refused where nothing is bound: a guest that tells which pod it has."""
    uki = world.IMAGES / scene.platform.uki
    return Attack(
        party="host a",
        what="initdata packed again, and sent as it is",
        where=Where.VERIFIER,
        config=scene.guest("attack-a", uki=uki, initdata_disk=pod.disk, spare=1),
        failing=pod.refusal,
    )


def _plan_boot_attacks(
    scene: World, images: ForgedImages, pod: ForgedPod, honest: GuestConfig
) -> tuple[Attack, ...]:
    """What a host can try where the boot is measured: five guests, each with its own vTPM.

    The first two differ in one word alone: what stops the first is stage 0's look at that word, and
    not the way by which it came.
    """
    uki, line = world.IMAGES / scene.platform.uki, images.image.line
    another, own = (_forge_option(scene, honest, one) for one in (line + forge.WISH, line))
    return (
        Attack(
            party="host a",
            what="another command line through boot LoadOptions",
            where=Where.STAGE0,
            config=scene.guest("attack-a", uki=uki, variables=another, spare=1),
            failing={},
        ),
        Attack(
            party="host b",
            what="the image's own command line through boot LoadOptions",
            where=Where.VERIFIER,
            config=scene.guest("attack-b", uki=uki, variables=own, spare=2),
            failing={"pcr.12": forge.measured_load_options(line).hex()},
        ),
        Attack(
            party="host c",
            what="a UKI rebuilt with another token and the matching expected line",
            where=Where.VERIFIER,
            config=scene.guest("attack-c", uki=images.token, spare=3),
            failing=_differing_registers(scene, images.token),
        ),
        Attack(
            party="host d",
            what="initdata packed again with the attacker's log key",
            where=Where.VERIFIER,
            config=scene.guest("attack-d", uki=uki, initdata_disk=pod.disk, spare=4),
            failing=pod.refusal,
        ),
        Attack(
            party="host e",
            what="a root rebuilt with one byte of crun changed",
            where=Where.VERIFIER,
            config=scene.guest("attack-e", uki=images.root, spare=5),
            failing=_differing_registers(scene, images.root),
        ),
    )


def _forge_option(scene: World, honest: GuestConfig, line: str) -> Path:
    """Write EFI variables whose boot option passes a command line to the UKI."""
    files = GuestFiles(folder=honest.folder)
    pristine = files.pristine_variables.read_bytes()
    forged = forge.forge_load_options(files.variables.read_bytes(), pristine, line)
    path = scene.folder / "forged" / f"{hashlib.sha256(line.encode()).hexdigest()[:8]}.fd"
    path.write_bytes(forged)
    return path


def _differing_registers(scene: World, uki: Path) -> Mapping[str, str]:
    """Return the registers of a forged UKI that are not the registered ones, as claims."""
    theirs = json.loads(predict(uki, uki.with_suffix(".json")).read_text())["pcr"]
    ours = json.loads(scene.reference.read_text())["pcr"]
    return {f"pcr.{index}": theirs[index] for index in ours if theirs[index] != ours[index]}


def judge(attack: Attack, life: Life, records: Sequence[Record]) -> Outcome:
    """Say what became of an attack.

    Args:
        attack: what was tried.
        life: what the host saw.
        records: of the KBS's audit log.
    """
    mine = tuple(records_of(attack.config, records))
    attested = [record for record in mine if record["event"] == "attest"]
    named = tuple(dict.fromkeys(claim["name"] for record in attested for claim in _failing(record)))
    match attack.where:
        case Where.STAGE0:
            complaints = _judge_stage0(life, attested)
        case Where.CONFIG:
            complaints = _judge_config(life, attested)
        case Where.VERIFIER:
            complaints = _judge_verifier(attack, life, attested)
        case _:
            assert_never(attack.where)
    if life.end is not EndReason.RESET:
        complaints.append(f"the guest ended with {life.end}")
    return Outcome(
        attack=attack,
        released=sum(record["decision"] == "released" for record in mine),
        code=max(life.codes) if life.hello_ms is not None else None,
        named=named,
        complaints=tuple(complaints),
    )


def records_of(config: GuestConfig, records: Sequence[Record]) -> Iterator[Record]:
    """Yield the records of every session in which evidence came from this guest.

    A guest is known by its vTPM's key, or by what its host bound at launch.
    """
    if config.tpm is None:
        name, value = (
            "initdata.digest",
            claimed_document(config.serial_number, config.disks[0].path.with_suffix(".toml")),
        )
    else:
        digest = hashlib.sha256(config.tpm.ak_public_der()).hexdigest()
        name, value = "ak.unregistered", f"sha256:{digest}"
    sessions = {
        record["session"]
        for record in records
        for claim in record.get("claims", ())
        if claim["name"] == name and claim["got"] == value
    }
    return (record for record in records if record["session"] in sessions)


def _judge_end(life: Life, phase: Phase, following: Phase, code: Code) -> list[str]:
    """Complain unless the guest ended in this phase, before the next one, with this code."""
    complaints = []
    if phase not in life.reached or following in life.reached:
        phases = ", ".join(one.name for one in sorted(life.reached))
        complaints.append(f"it did not end in {phase.name}; the host saw {phases}")
    if code not in life.codes:
        complaints.append(f"the host was told {sorted(one.name for one in life.codes)}")
    return complaints


def _judge_config(life: Life, attested: Sequence[Record]) -> list[str]:
    complaints = _judge_end(life, Phase.CONFIG, Phase.NET, Code.CONFIG)
    if attested:
        complaints.append("the guest attested")
    return complaints


def _judge_stage0(life: Life, attested: Sequence[Record]) -> list[str]:
    complaints = []
    if life.hello_ms is not None:
        complaints.append("the guest left stage 0 and said hello")
    if attested:
        complaints.append("the guest attested")
    return complaints


def _judge_verifier(attack: Attack, life: Life, attested: Sequence[Record]) -> list[str]:
    complaints = _judge_end(life, Phase.ATTEST, Phase.UNLOCK, Code.REFUSED)
    if [record["decision"] for record in attested] != ["refused"]:
        decisions = [record["decision"] for record in attested]
        complaints.append(f"one refusal was expected, the audit log has {decisions}")
    got = {claim["name"]: claim["got"] for record in attested for claim in _failing(record)}
    if got != attack.failing:
        complaints.append(f"the audit log names {got}, expected was {dict(attack.failing)}")
    return complaints


def _failing(record: Record) -> Iterator[Mapping[str, str]]:
    return (claim for claim in record.get("claims", ()) if not claim["holds"])
