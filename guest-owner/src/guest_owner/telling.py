"""What the owner's commands say beside their results: on standard error, with their name."""

import logging
from typing import Final

from measured_boot.command_line import errors

PROGRAM: Final = "guest-owner"


def tell(text: str) -> None:
    """Say how something goes on; a reader that is gone does not end it."""
    errors.tell(PROGRAM, text)


def warn(text: str) -> None:
    """Say what is done all the same, but may not be meant."""
    tell(f"warning: {text}")


def tell_logged() -> None:
    """Let what modules log while a server runs be said in the same form."""
    logging.basicConfig(format=f"{PROGRAM}: %(message)s")
