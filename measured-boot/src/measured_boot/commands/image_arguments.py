"""The arguments that give `predict`, `replay` and `explain` an image and a platform."""

import argparse
from pathlib import Path
from typing import Final

from measured_boot.command_line.files import naming
from measured_boot.command_line.usage import UsageError, judging_words
from measured_boot.image_files import ImageFiles
from measured_boot.platforms import Boot, Platform, find_named_platform
from measured_boot.prediction import BootEvents, DirectKernelBoot, UkiBoot, predict_events

IMAGE_HELP: Final = "a UKI, with --initrd a kernel, or a built image's .json"


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that accompany a command's argument `image`."""
    add = parser.add_argument
    add("--initrd", type=Path, metavar="FILE", help="direct boot: the initrd that QEMU is given")
    add("--command-line", type=Path, metavar="FILE", help="direct boot: holds QEMU's `-append`")
    add("--platform", help="one of `measured-boot platforms` (default: the one that fits)")


def image_paths(options: argparse.Namespace) -> tuple[Path | None, ...]:
    """Return the files of an image that a command line names."""
    return options.image, options.initrd, options.command_line


def named_platform(options: argparse.Namespace) -> Platform | None:
    """Return the platform that the command line names, if it names one.

    Raises:
        UsageError: `platform.unknown`; `platform.mismatch`: it does not boot what is named; as
            `ImageFiles.boot`.
    """
    boot = None if options.image is None else _image_files(options).boot
    if options.platform is None:
        return None
    with judging_words():
        platform = find_named_platform(options.platform)
    if boot not in {None, platform.boot}:
        files = "a kernel with --initrd and --command-line"
        wanted = files if platform.boot is Boot.DIRECT else "a UKI"
        raise UsageError("platform.mismatch", f"{platform.name} boots {wanted}: name that")
    return platform


def _image_files(options: argparse.Namespace) -> ImageFiles:
    return ImageFiles(image=options.image, initrd=options.initrd, command_line=options.command_line)


def read_image(options: argparse.Namespace) -> UkiBoot | DirectKernelBoot:
    """Return what the image of a command line boots on the platform that it names.

    Raises:
        ConfigError, FormatError: as `ImageFiles.read` and `named_platform`.
    """
    platform = named_platform(options)
    return _image_files(options).read(None if platform is None else platform.boot)


def predict_image(options: argparse.Namespace) -> BootEvents:
    """Return the events of the image of a command line.

    Raises:
        ConfigError, FormatError: as `read_image` and `predict_events`.
    """
    what = read_image(options)
    with naming(options.image):
        return predict_events(what, options.platform)
