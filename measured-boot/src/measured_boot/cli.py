"""The command `measured-boot`: predict the registers of an image, and find where a boot differs.

Thin: files to values, values to text. From Python, use `measured_boot.prediction` and
`measured_boot.reference_values`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ccinit.errors import CcinitError, ConfigError
from ccinit.formats.event_log import Algorithm, parse_event_log
from measured_boot.event_log import Difference, find_differences
from measured_boot.platforms import PLATFORMS, Boot
from measured_boot.prediction import DirectKernelBoot, Prediction, UkiBoot, predict
from measured_boot.reference_values import Profile, reference_values


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 if not, 2 for wrong arguments."""
    options = _parser().parse_args(arguments)
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except CcinitError as error:
        print(f"measured-boot: {error.detail} [{error.reason}]", file=sys.stderr)
    except OSError as error:
        print(f"measured-boot: {error}", file=sys.stderr)
    return 1


def _predict(options: argparse.Namespace) -> int:
    prediction = _read_prediction(options)
    boot = prediction.platform.boot
    path = "" if boot is Boot.UKI else f"-{boot.value}"  # an owner keeps both of one image
    name = options.name or options.image.stem.lower() + path
    profile = None if options.profile is None else Profile(options.profile)
    values = reference_values(prediction, name, profile)
    if options.output is not None:
        options.output.write_bytes(values.to_bytes())
    if options.json:
        print(values.to_bytes().decode(), end="")
        return 0
    print(f"{values.name}: {values.profile.value}, {values.boot.value} boot")
    print(f"platform {prediction.platform.name}")
    for register, value in prediction.registers.items():
        print(f"PCR {register:2} {value.hex()}")
        for event in prediction.events if options.events else ():
            if event.register == register:
                print(f"       {event.digest.hex()} {event.subject}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    prediction = _read_prediction(options)
    log = parse_event_log(options.log.read_bytes(), Algorithm.SHA256)
    differences = find_differences(prediction.events, log.events)
    for difference in differences:
        print(_describe(difference))
    if not differences:
        print("the log is as predicted")
    return 1 if differences else 0


def _platforms(options: argparse.Namespace) -> int:
    del options
    for platform in PLATFORMS:
        stub = "" if platform.stub is None else f", systemd-stub {platform.stub}"
        print(f"{platform.name}: OVMF {platform.firmware}{stub}, QEMU {platform.emulator}")
        print(f"  firmware sha256:{platform.firmware_sha256}")
    return 0


def _read_prediction(options: argparse.Namespace) -> Prediction:
    image = options.image.read_bytes()
    if options.initrd is None and options.command_line is None:
        return predict(UkiBoot(uki=image), options.platform)
    if options.initrd is None or options.command_line is None:
        raise ConfigError("predict.what", "direct boot needs both --initrd and --command-line")
    try:
        line = options.command_line.read_text("ascii").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ConfigError("predict.what", "the command line is not ASCII") from error
    direct = DirectKernelBoot(kernel=image, initrd=options.initrd.read_bytes(), command_line=line)
    return predict(direct, options.platform)


def _describe(difference: Difference) -> str:
    where = f"PCR {difference.register}, event {difference.position + 1}:"
    if difference.predicted is None:
        return f"{where} predicted nothing more, the log has {difference.logged_digest}"
    return (
        f"{where} {difference.predicted.subject}: predicted {difference.predicted.digest.hex()}, "
        f"the log has {difference.logged_digest}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="measured-boot",
        description="Say what a boot will leave in the registers of a TPM.",
        epilog="A prediction holds for the platforms that `measured-boot platforms` lists.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser("predict", help="PCR 4, 9 and 11 of an image")
    _add_image(add)
    add.add_argument("--profile", choices=[member.value for member in Profile])
    add.add_argument("--name", help="of the reference values (default: the image's file name)")
    shown = add.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print what --output writes")
    shown.add_argument("--events", action="store_true", help="print each event, too")
    add.add_argument("--output", type=Path, help="file to write the reference values to")
    add.set_defaults(command=_predict)
    add = commands.add_parser("compare", help="find where a firmware's event log differs")
    _add_image(add)
    add.add_argument("log", type=Path, help="a guest's binary_bios_measurements")
    add.set_defaults(command=_compare)
    add = commands.add_parser("platforms", help="list what predictions hold for")
    add.set_defaults(command=_platforms)
    return parser


def _add_image(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("image", type=Path, help="a UKI, or with --initrd a kernel")
    add("--initrd", type=Path, help="direct boot: the initrd that QEMU is given")
    add("--command-line", type=Path, metavar="FILE", help="direct boot: the line QEMU is given")
    add("--platform", help="one of `measured-boot platforms` (default: the one that fits)")
