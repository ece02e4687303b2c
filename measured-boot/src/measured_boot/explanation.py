"""The chain of one image on one platform: who measures what, and where it shows. Pure.

The steps of a boot are the predicted events, grouped by program. Before them comes what a platform
measures before the first instruction, after them what the guest itself checks.
`measured_boot.explanation_drawing` and the command present the steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, assert_never

from ccinit.formats.cmdline import Carrier
from measured_boot.platforms import Boot, Platform, Technology
from measured_boot.prediction import BootEvents
from measured_boot.tdx.registers import rtmr_of
from measured_boot.tpm.boot_events import APPLICATIONS, EXITS, KERNEL_INPUTS
from measured_boot.tpm.pcr import Event, EventKind

FIRMWARE: Final = "firmware"
_STUB: Final = "systemd-stub"
_KERNEL: Final = "kernel's EFI entry"
_STAGE_0: Final = "stage 0"
_PID_1: Final = "PID 1"
_VERIFIER: Final = "verifier"
_DIGEST: Final = "launch digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One link of the chain.

    Attributes:
        who: the program, or the processor.
        action: `measures`, `checks`, `opens`, `extends`, `compares` or `refuses`.
        what: the thing that is measured or checked.
        where: the register in which it shows, or what it is checked against.
        digest: hex, of what is measured; empty where there is none to predict.
    """

    who: str
    action: str
    what: str
    where: str
    digest: str = ""


def explain(boot: BootEvents) -> tuple[Step, ...]:
    """Return the steps of a boot in their order."""
    return (
        *_explain_launch(boot.platform),
        *_explain_events(boot.platform, boot.events),
        *_explain_guest(boot.platform.technology, boot.command_line),
    )


def _explain_launch(platform: Platform) -> Iterator[Step]:
    """Yield what the processor measures before the first instruction."""
    match platform.technology:
        case Technology.TPM:
            return
        case Technology.TDX:
            yield _measured("TDX module", "pages of the firmware", "MRTD")
        case Technology.SNP_SVSM:
            for what in ("pages of the firmware", "pages of the SVSM", "state of each processor"):
                yield _measured("security processor", what, _DIGEST)
        case Technology.SEV | Technology.SEV_ES | Technology.SNP:
            yield _measured("security processor", "pages of the firmware", _DIGEST)
            for what in ("kernel", "initrd", "command line"):
                yield _measured("security processor", f"hash of the {what}", _DIGEST)
            if platform.technology is not Technology.SEV:
                yield _measured("security processor", "state of each processor", _DIGEST)
            for what in ("kernel", "initrd", "command line"):
                yield Step(who=FIRMWARE, action="checks", what=what, where="against its hash")
        case _:
            assert_never(platform.technology)


def _explain_events(platform: Platform, events: tuple[Event, ...]) -> Iterator[Step]:
    match platform.technology:
        case Technology.TPM | Technology.SNP_SVSM:
            for event in events:
                where = f"PCR {event.register}"
                yield _explain_event(platform.boot, event, where, event.digest.hex())
        case Technology.TDX:
            for event in (*events, *EXITS):
                where = f"RTMR {rtmr_of(event.register)}"
                yield _explain_event(platform.boot, event, where, event.wide_digest.hex())
        case Technology.SEV | Technology.SEV_ES | Technology.SNP:
            return  # these processors keep no register of a boot
        case _:
            assert_never(platform.technology)


def _explain_event(boot: Boot, event: Event, where: str, digest: str) -> Step:
    return Step(
        who=_measurer(boot, event),
        action="measures",
        what=event.subject,
        where=where,
        digest=digest,
    )


def _measurer(boot: Boot, event: Event) -> str:
    if event.register == APPLICATIONS or event.kind is EventKind.ACTION:
        return FIRMWARE
    if event.register == KERNEL_INPUTS:
        return _KERNEL
    if boot is Boot.UKI:
        return _STUB
    raise ValueError(f"no one measures into PCR {event.register} in a direct boot")


def _explain_guest(technology: Technology, command_line: str) -> Iterator[Step]:
    yield Step(
        who=_STAGE_0, action="checks", what="command line", where="against a file of the initrd"
    )
    if f"ccinit.carrier={Carrier.DISK}" in command_line.split(" "):
        where = "against the hash on the command line"
        yield Step(who=_STAGE_0, action="checks", what="each block of the root", where=where)
    else:
        where = "as part of the initrd"
        yield Step(who=_STAGE_0, action="opens", what="the root", where=where)
    match technology:
        case Technology.TPM:
            yield Step(who=_PID_1, action="extends", what="initdata document", where="PCR 8")
            compared = "PCR 4, 8, 9, 11"
        case Technology.TDX:
            yield Step(who=_PID_1, action="compares", what="initdata document", where="MRCONFIGID")
            compared = "MRTD, RTMR 1 and 2, MRCONFIGID"
        case Technology.SNP:
            yield Step(who=_PID_1, action="compares", what="initdata document", where="HOSTDATA")
            compared = f"{_DIGEST}, HOSTDATA"
        case Technology.SNP_SVSM:
            where = "PCR 8 of the SVSM's TPM"
            yield Step(who=_PID_1, action="extends", what="initdata document", where=where)
            compared = f"{_DIGEST} of the SVSM, PCR 4, 8, 9, 11"
        case Technology.SEV | Technology.SEV_ES:
            compared = _DIGEST
        case _:
            assert_never(technology)
    what = "all of this with the owner's values"
    yield Step(who=_VERIFIER, action="compares", what=what, where=compared)


def _measured(who: str, what: str, where: str) -> Step:
    return Step(who=who, action="measures", what=what, where=where)
