"""The options of `host-runtime boot` that choose a TEE: arguments to values, and refusals.

Firmware is the operator's input, and measured. Firmware that does not check what it boots is
refused here, as in the prediction (`measured_boot.sev.launch`): the owner would refuse such a guest
anyway, and would only say that a digest is unknown.
"""

import argparse
import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Final, assert_never

from ccinit.errors import ConfigError
from ccinit.formats.initdata.document import MAX_DOCUMENT_BYTES, parse_initdata
from host_runtime.machine.qemu import Accelerator
from host_runtime.machine.tee import (
    DEFAULT_POLICY,
    IdentityBlock,
    SnpGuest,
    TdxGuest,
    check_policy,
    object_type,
)
from host_runtime.programs import process
from host_runtime.programs.tools import Tools
from measured_boot.command_line.files import read_capped, reading
from measured_boot.command_line.usage import UsageError, judging_words
from measured_boot.image.ovmf import MAX_FIRMWARE_BYTES
from measured_boot.sev.cpu_models import find_signature
from measured_boot.sev.firmware import parse_sev_firmware
from measured_boot.sev.launch import require_snp
from measured_boot.tdx.firmware import parse_tdx_sections

_MAX_IDENTITY_BYTES: Final = 4096


class TeeKind(StrEnum):
    """What protects and attests a guest."""

    SNP = "snp"
    TDX = "tdx"
    TPM = "tpm"
    NONE = "none"


def add_tee(parser: argparse.ArgumentParser) -> None:
    """Add the options to those of `boot`."""
    group = parser.add_argument_group("TEE (snp and tdx: not run on hardware yet)")
    add = group.add_argument
    add(
        "--tee",
        choices=[kind.value for kind in TeeKind],
        help="what protects and attests the guest; tpm needs --tpm",
    )
    add("--firmware", type=Path, metavar="FILE", help="snp, tdx: the OVMF that is measured")
    add(
        "--initdata",
        type=Path,
        metavar="FILE",
        help="snp, tdx: the document whose digest the launch carries",
    )
    add("--cpu-model", metavar="NAME", help="snp: QEMU's name of the processor model")
    add(
        "--policy",
        type=_parse_policy,
        metavar="NUMBER",
        help=f"snp: guest policy (default: {DEFAULT_POLICY:#x})",
    )
    add("--id-block", type=Path, metavar="FILE", help="snp: ID block, 96 bytes; with --id-auth")
    add("--id-auth", type=Path, metavar="FILE", help="snp: its keys and signatures, 4096 bytes")
    add("--author-key", action="store_true", help="snp: --id-auth has an author's key")
    add(
        "--print",
        action="store_true",
        help="print QEMU's command, one word per line, and start nothing",
    )


def require_consistent_tee(options: argparse.Namespace) -> None:
    """Refuse options that would be ignored: the guest would look protected without being so.

    Raises:
        UsageError: `tee.options`, `tee.boot`, `tee.policy`, `cpu_model.unknown`.
    """
    kind = _kind(options)
    is_confidential = kind in {TeeKind.SNP, TeeKind.TDX}
    if not is_confidential and (options.firmware or options.initdata):
        raise UsageError("tee.options", "--firmware and --initdata go with --tee snp or tdx")
    of_snp = {
        "--cpu-model": options.cpu_model,
        "--policy": options.policy is not None,
        "--id-block": options.id_block,
        "--id-auth": options.id_auth,
        "--author-key": options.author_key,
    }
    given = [option for option, value in of_snp.items() if value]
    if kind is not TeeKind.SNP and given:
        raise UsageError("tee.options", f"{' and '.join(given)}: only with --tee snp")
    if kind is TeeKind.TPM and options.tpm is None:
        raise UsageError("tee.options", "--tee tpm needs --tpm FOLDER")
    if kind not in {TeeKind.TPM, None} and options.tpm is not None:
        raise UsageError("tee.options", "--tpm goes with --tee tpm")
    for option, path in (("--firmware", options.firmware), ("--initdata", options.initdata)):
        if is_confidential and path is None:
            raise UsageError("tee.options", f"this TEE needs {option}")
    if is_confidential and options.ovmf:
        raise UsageError("tee.options", "--ovmf: the firmware of this TEE is that of --firmware")
    if is_confidential and options.accelerator == Accelerator.TCG:
        raise UsageError("tee.options", "--accelerator tcg: emulation protects no guest")
    if kind is TeeKind.SNP:
        _require_consistent_snp(options)


def _require_consistent_snp(options: argparse.Namespace) -> None:
    if options.kernel is None:
        raise UsageError("tee.boot", "firmware for SEV-SNP measures a direct boot only")
    if options.cpu_model is None:
        raise UsageError("tee.options", "the launch measures the processor model: --cpu-model")
    if options.author_key and options.id_auth is None:
        raise UsageError("tee.options", "--author-key is part of a signed launch: add --id-auth")
    if (options.id_block is None) != (options.id_auth is None):
        raise UsageError("tee.options", "--id-block and --id-auth: a launch needs both, or neither")
    with judging_words():
        find_signature(options.cpu_model)  # one that is not known cannot be predicted either
        if options.policy is not None:
            check_policy(options.policy)


def choose_tee(options: argparse.Namespace) -> SnpGuest | TdxGuest | None:
    """Return the confidential guest that the options describe, None for `tpm` and `none`.

    Args:
        options: which `require_consistent_tee` has passed.

    Raises:
        ConfigError: with a reason below `tee`, `launch` or `cpu_model`.
        FormatError: the firmware is not OVMF, with a reason below `firmware`.
    """
    kind = _kind(options)
    match kind:
        case TeeKind.SNP:
            return _choose_snp(options)
        case TeeKind.TDX:
            with reading(options.firmware, MAX_FIRMWARE_BYTES) as data:
                parse_tdx_sections(data)
            document = _read_document(options)
            return TdxGuest(mrconfigid=hashlib.sha384(document).digest())
        case TeeKind.TPM | TeeKind.NONE | None:
            return None
        case _:
            assert_never(kind)


def require_host(tee: SnpGuest | TdxGuest | None, accelerator: Accelerator, tools: Tools) -> None:
    """Refuse to start a confidential guest where nothing would encrypt it.

    Raises:
        ConfigError: `tee.hardware`: no KVM; `tee.emulator`: this QEMU is too old.
    """
    if tee is None:
        return
    if accelerator is not Accelerator.KVM:
        raise ConfigError("tee.hardware", "a TEE needs KVM and a processor that has it")
    require_emulator(tee, tools)


def require_emulator(tee: SnpGuest | TdxGuest, tools: Tools) -> None:
    """Refuse a QEMU that has no object for this TEE.

    Raises:
        ConfigError: `tee.emulator`.
        ChildError: QEMU did not run.
    """
    command = (*tools.command("qemu-system-x86_64"), "-object", "help")
    listed = process.run(command, environment=tools.environment()).decode().split()
    wanted = object_type(tee)
    if wanted not in listed:
        raise ConfigError(
            "tee.emulator", f"this QEMU has no {wanted} (SEV-SNP from 9.1 on, TDX from 10.1 on)"
        )


def _kind(options: argparse.Namespace) -> TeeKind | None:
    return None if options.tee is None else TeeKind(options.tee)


def _choose_snp(options: argparse.Namespace) -> SnpGuest:
    with reading(options.firmware, MAX_FIRMWARE_BYTES) as data:
        require_snp(parse_sev_firmware(data))
    document = _read_document(options)
    return SnpGuest(
        host_data=hashlib.sha256(document).digest(),
        cpu_model=options.cpu_model,
        policy=DEFAULT_POLICY if options.policy is None else options.policy,
        identity=_choose_identity(options),
    )


def _choose_identity(options: argparse.Namespace) -> IdentityBlock | None:
    if options.id_block is None:
        return None
    return IdentityBlock(
        block=read_capped(options.id_block, _MAX_IDENTITY_BYTES),
        authentication=read_capped(options.id_auth, _MAX_IDENTITY_BYTES),
        has_author_key=options.author_key,
    )


def _parse_policy(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, as 0x30000: {text!r}") from None


def _read_document(options: argparse.Namespace) -> bytes:
    """Return the document; with the digest of anything else the guest would silently stop."""
    with reading(options.initdata, MAX_DOCUMENT_BYTES) as document:
        parse_initdata(document)
    return document
