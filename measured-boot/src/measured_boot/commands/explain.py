"""The command `measured-boot explain`: the chain of one image as text, and as a drawing."""

import argparse
from pathlib import Path

from measured_boot.command_line.files import require_apart, write_whole
from measured_boot.command_line.subcommands import Subparsers, add_command
from measured_boot.commands.image_arguments import (
    IMAGE_HELP,
    add_image_options,
    image_paths,
    named_platform,
    predict_image,
)
from measured_boot.explanation import explain
from measured_boot.explanation_drawing import draw_svg, draw_text
from measured_boot.published.reference_values import profile_of


def add_explain(commands: Subparsers) -> None:
    """Add `explain`."""
    summary = "Show which register has what of an image, and who measures it."
    parser = add_command(commands, "explain", summary)
    parser.add_argument("image", type=Path, metavar="IMAGE", help=IMAGE_HELP)
    add_image_options(parser)
    parser.add_argument(
        "--svg", type=Path, metavar="FILE", help="draw it, too; a file that is there is replaced"
    )
    parser.set_defaults(func=_explain)


def _explain(options: argparse.Namespace) -> int:
    named_platform(options)  # which judges the words about the image
    require_apart([options.svg], image_paths(options))
    boot = predict_image(options)
    steps = explain(boot)
    print(f"{options.image.name}: {profile_of(boot.command_line).value}, on {boot.platform.name}")
    print(draw_text(steps), end="")
    if options.svg is not None:
        write_whole(options.svg, draw_svg(steps, boot.platform.name).encode())
    return 0
