"""The command `measured-boot predict`: its arguments, and what it prints.

With --json and --output it writes the file that a guest's owner registers
(`measured_boot.published.reference_values`).
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from measured_boot.command_line.argument_types import whole_number
from measured_boot.command_line.files import (
    naming,
    read_capped,
    reading,
    require_apart,
    write_whole,
)
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.command_line.usage import UsageError, as_word, judging_words
from measured_boot.commands.image_arguments import (
    IMAGE_HELP,
    add_image_options,
    image_paths,
    named_platform,
    read_image,
)
from measured_boot.image.ovmf import MAX_FIRMWARE_BYTES, parse_footer_table
from measured_boot.platforms import Boot, Platform, Technology
from measured_boot.prediction import (
    LaunchPrediction,
    Machine,
    TpmPrediction,
    predict,
    predict_events,
    predict_launch_of,
)
from measured_boot.published.reference_values import (
    Profile,
    ReferenceValues,
    check_name,
    encode_launches,
    profile_of,
    reference_values,
)
from measured_boot.sev.cpu_models import find_signature
from measured_boot.sev.launch import MAX_FEATURES, MAX_PROCESSORS
from measured_boot.sev.vmsa import SNP_ACTIVE

_COUNTS: Final = re.compile("([0-9]{1,4})(?:-([0-9]{1,4}))?")
_MACHINE_OPTIONS: Final = (
    *("firmware", "vcpus", "memory", "cpu_model", "guest_features"),
    *("svsm", "variables"),
)
_PROCESSORS: Final = {"firmware", "memory", "vcpus", "cpu_model"}
_MEASURED: Final = {
    Technology.TPM: set[str](),
    Technology.SEV: {"firmware", "memory"},
    Technology.SEV_ES: _PROCESSORS,
    Technology.SNP: _PROCESSORS | {"guest_features"},
    Technology.SNP_SVSM: _PROCESSORS | {"svsm", "variables"},
    Technology.TDX: {"firmware", "memory"},
}
_NEEDED: Final = {
    Technology.TPM: (),
    Technology.SEV: ("firmware",),
    Technology.SEV_ES: ("firmware", "cpu_model"),
    Technology.SNP: ("firmware", "cpu_model"),
    Technology.SNP_SVSM: ("firmware", "svsm", "cpu_model"),
    Technology.TDX: (),  # a platform is of one firmware
}
_MAX_MEMORY_MIB: Final = 1 << 32
_NOT_COMPARED: Final = "computed by the specification; no boot of such hardware was compared"


def add_predict(commands: Subparsers) -> None:
    """Add `predict`."""
    summary = "Say what an image will leave in the registers of a platform."
    parser = add_command(commands, "predict", summary)
    parser.add_argument("image", type=Path, metavar="IMAGE", help=IMAGE_HELP)
    add_image_options(parser)
    add = parser.add_argument
    add(
        "--profile",
        choices=[member.value for member in Profile],
        help="refuse an image of another profile (default: accept any)",
    )
    add(
        "--name",
        type=as_word(check_name),
        help="name of the reference values (default: the image's file name)",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print what --output writes")
    shown.add_argument("--events", action="store_true", help="print each event of a TPM, too")
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help="file to write the values to; one that is there is replaced",
    )
    _add_machine(parser)
    parser.set_defaults(func=_predict)


def _add_machine(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("the host's machine, for a platform of AMD or Intel")
    add = machine.add_argument
    add("--firmware", type=Path, metavar="FILE", help="the OVMF file that the launch measures")
    add(
        "--vcpus",
        type=_parse_counts,
        metavar="COUNTS",
        help="one number or more: 4, 1,2,8, 1-16 (default: 1)",
    )
    add(
        "--memory",
        type=whole_number(1, _MAX_MEMORY_MIB),
        metavar="MIB",
        help="recorded; nothing that is predicted depends on it",
    )
    add(
        "--cpu-model",
        action="append",
        metavar="NAME",
        help="SEV-ES, SEV-SNP: QEMU's name of the processor model; may be repeated",
    )
    add(
        "--guest-features",
        type=_parse_features,
        metavar="NUMBER",
        help="SEV_FEATURES of SEV-SNP (default: 1)",
    )
    add(
        "--svsm",
        type=Path,
        metavar="FILE",
        help="SEV-SNP: the SVSM below firmware (no IGVM file)",
    )
    add(
        "--variables",
        type=Path,
        metavar="FILE",
        help="SVSM: file of the variables that lie between firmware and SVSM; only its size counts",
    )


def _predict(options: argparse.Namespace) -> int:
    platform = named_platform(options)
    _require_measured(options, Technology.TPM if platform is None else platform.technology)
    machine = (options.firmware, options.svsm, options.variables)
    require_apart([options.output], (*image_paths(options), *machine))
    if platform is None or platform.technology is Technology.TPM:
        values, lines = _predict_registers(options)
    else:
        values, lines = _predict_launch(options, platform)
    if options.output is not None:
        write_whole(options.output, values)
    print(values.decode() if options.json else "\n".join((*lines, "")), end="")
    return 0


def _require_measured(options: argparse.Namespace, technology: Technology) -> None:
    """Refuse options without an effect, for what is not measured; and demand those for what is.

    Raises:
        UsageError: `predict.what`, `cpu_model.unknown`.
    """
    if options.events and technology is not Technology.TPM:
        raise UsageError("predict.what", "--events are those of a TPM: `explain` has them all")
    given = [name for name in _MACHINE_OPTIONS if getattr(options, name) is not None]
    for name in given:
        if technology is Technology.TPM:
            detail = f"{_option(name)} is for a platform of AMD or Intel: name one"
            raise UsageError("predict.what", detail)
        if name not in _MEASURED[technology]:
            detail = f"{_option(name)} is not measured by {technology.value}"
            raise UsageError("predict.what", detail)
    for name in _NEEDED[technology]:
        if name not in given:
            detail = f"give {_option(name)}: {technology.value} measures it"
            raise UsageError("predict.what", detail)
    with judging_words():
        for model in options.cpu_model or ():
            find_signature(model)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _predict_registers(options: argparse.Namespace) -> tuple[bytes, Iterator[str]]:
    """Return the file of reference values, and lines that describe them."""
    what = read_image(options)
    with naming(options.image):
        prediction = predict(what, options.platform)
    boot = prediction.platform.boot
    path = "" if boot is Boot.UKI else f"-{boot.value}"  # an owner may keep both for one image
    name = options.image.stem.lower() + path if options.name is None else options.name
    profile = None if options.profile is None else Profile(options.profile)
    values = reference_values(prediction, name, profile)
    return values.to_bytes(), _describe_registers(values, prediction, with_events=options.events)


def _describe_registers(
    values: ReferenceValues, prediction: TpmPrediction, *, with_events: bool
) -> Iterator[str]:
    yield f"{values.name}: {values.profile.value}, {values.boot.value} boot"
    yield f"platform {prediction.platform.name}"
    for register, value in prediction.registers.items():
        yield f"PCR {register:2} {value.hex()}"
        for event in prediction.events if with_events else ():
            if event.register == register:
                yield f"       {event.digest.hex()} {event.subject}"


def _predict_launch(options: argparse.Namespace, platform: Platform) -> tuple[bytes, Iterator[str]]:
    """Return the file of reference values, and lines that say for which machines each is."""
    what = read_image(options)
    with naming(options.image):
        boot = predict_events(what, platform.name)
    predictions = tuple(
        predict_launch_of(what, boot, machine) for machine in _list_machines(options)
    )
    technology, path = platform.technology.value, platform.boot.value
    suffix = f"{technology}-{path}" if platform.technology is Technology.TDX else technology
    name = f"{options.image.stem.lower()}-{suffix}" if options.name is None else options.name
    profile = None if options.profile is None else Profile(options.profile)
    head = f"{name}: {profile_of(predictions[0].command_line).value}, {path} boot"
    return encode_launches(predictions, name, profile), _describe_launches(head, predictions)


def _describe_launches(head: str, predictions: Sequence[LaunchPrediction]) -> Iterator[str]:
    yield head
    yield f"platform {predictions[0].platform.name}: {_NOT_COMPARED}"
    for prediction in predictions:
        for name, value in prediction.inputs.items():
            yield f"with {name} {value}"
        for name, digest in prediction.named_registers.items():
            yield f"{name} {digest.hex()}"


def _list_machines(options: argparse.Namespace) -> tuple[Machine | None, ...]:
    """Return a machine for each number and model of processors; None: there is no firmware."""
    if options.firmware is None:
        return (None,)
    firmware = _read_firmware(options.firmware)
    svsm = None if options.svsm is None else _read_firmware(options.svsm)
    features: int | None = options.guest_features
    variables = options.variables and read_capped(options.variables, MAX_FIRMWARE_BYTES)
    return tuple(
        Machine(
            firmware=firmware,
            svsm=svsm,
            variables_bytes=len(variables or b""),
            vcpus=vcpus,
            memory_mib=options.memory,
            cpu_model=model,
            guest_features=SNP_ACTIVE if features is None else features,
        )
        for model in options.cpu_model or [None]
        for vcpus in options.vcpus or (1,)
    )


def _read_firmware(path: Path) -> bytes:
    with reading(path, MAX_FIRMWARE_BYTES) as data:
        parse_footer_table(data)
    return data


def _parse_counts(text: str) -> tuple[int, ...]:
    """Return the numbers of "1,2,4-8"."""
    counts: list[int] = []
    for part in text.split(","):
        match = _COUNTS.fullmatch(part)
        if match is None:
            break
        low, high = int(match[1]), int(match[2] or match[1])
        if not 1 <= low <= high <= MAX_PROCESSORS:
            break
        counts += range(low, high + 1)
    else:
        return tuple(counts)
    expected = f"expected 1 to {MAX_PROCESSORS} processors, as 4 or 1,2,8 or 1-16"
    raise argparse.ArgumentTypeError(f"{expected}, found {text[:40]!r}")


def _parse_features(text: str) -> int:
    try:
        features = int(text, 0)
    except ValueError:
        features = -1
    if not 0 <= features <= MAX_FEATURES or not features & SNP_ACTIVE:
        detail = f"expected 64 bits with bit 0 set, as 1 or 0x21, found {text[:40]!r}"
        raise argparse.ArgumentTypeError(detail)
    return features
