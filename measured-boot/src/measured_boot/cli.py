"""The command `measured-boot`: predict the registers of an image, and find where a boot differs.

A thin layer: files to values, values to text. From Python, use `measured_boot.prediction` and
`measured_boot.published.reference_values`.
"""

import argparse
from collections.abc import Sequence

from measured_boot.command_line.errors import EXIT_STATUS, run_command
from measured_boot.command_line.subcommands import (
    add_command,
    add_commands,
    make_parser,
    run_chosen,
)
from measured_boot.commands.explain import add_explain
from measured_boot.commands.predict import add_predict
from measured_boot.commands.replay import add_replay
from measured_boot.commands.unverified import add_unverified
from measured_boot.commands.verify import add_verify
from measured_boot.platforms import PLATFORMS, Platform


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it succeeded, 1 if not, 2 for wrong arguments."""
    return run_command("measured-boot", lambda: run_chosen(_parser(), arguments))


def _platforms(options: argparse.Namespace) -> int:
    del options
    for platform in PLATFORMS:
        print("\n".join(_describe_platform(platform)))
    return 0


def _describe_platform(platform: Platform) -> tuple[str, str]:
    stub = "" if platform.stub is None else f", systemd-stub {platform.stub}"
    build = platform.firmware
    firmware = "the operator's firmware" if build is None else f"OVMF {build.version}"
    digest = "" if build is None else f"firmware sha256:{build.sha256}, "
    compared = "compared with a boot" if platform.is_compared else "not compared with a boot"
    return (
        f"{platform.name}: {platform.technology.value}, {firmware}{stub}, QEMU {platform.emulator}",
        f"  {digest}{compared}",
    )


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "measured-boot",
        "Say what a boot will leave in the registers of a TPM or a TEE.",
        f"Predictions hold for what `measured-boot platforms` lists. {EXIT_STATUS}",
    )
    commands = add_commands(parser)
    add_predict(commands)
    add_explain(commands)
    add_replay(commands)
    add_verify(commands)
    add_unverified(commands)
    platforms = add_command(commands, "platforms", "List what predictions hold for.")
    platforms.set_defaults(func=_platforms)
    return parser
