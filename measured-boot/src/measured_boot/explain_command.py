"""The command `measured-boot explain`: the chain of one image as text, and as a drawing."""

import argparse
from pathlib import Path
from typing import Final

from measured_boot.explanation import explain
from measured_boot.explanation_drawing import draw_svg, draw_text
from measured_boot.image_files import ImageFiles
from measured_boot.platforms import find_named_platform
from measured_boot.prediction import predict_events
from measured_boot.reference_values import profile_of

EXPLAIN_HELP: Final = "Show who measures what of an image into which register."


def add_explain(parser: argparse.ArgumentParser) -> None:
    """Make `parser` that of the command `explain`."""
    add = parser.add_argument
    add("image", type=Path, help="a UKI, with --initrd a kernel, or a built image's .json")
    add("--initrd", type=Path, help="direct boot: the initrd that QEMU is given")
    add("--command-line", type=Path, metavar="FILE", help="direct boot: the line QEMU is given")
    add("--platform", help="one of `measured-boot platforms` (default: the one that fits)")
    add("--svg", type=Path, metavar="FILE", help="draw it, too")
    parser.set_defaults(command=_explain)


def _explain(options: argparse.Namespace) -> int:
    wanted = None if options.platform is None else find_named_platform(options.platform)
    files = ImageFiles(
        image=options.image, initrd=options.initrd, command_line=options.command_line
    )
    what = files.read(None if wanted is None else wanted.boot)
    platform, line, events = predict_events(what, options.platform)
    steps = explain(platform, events, line)
    print(f"{options.image.name}: {profile_of(line).value}, on {platform.name}")
    print(draw_text(steps), end="")
    if options.svg is not None:
        options.svg.write_text(draw_svg(steps, platform.name))
    return 0
