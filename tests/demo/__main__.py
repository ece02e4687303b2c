"""`make demo`: the whole way end to end on this machine, attackers included.

Exit code 0 and a last line `demo: ok`, or 1 and which party failed, why, and what to do.
"""

import argparse
import signal
import sys
import time
from types import FrameType

from ccinit.errors import CcinitError
from tests.chain.platforms import TrustedPlatform
from tests.chain.show import PartyError, Show
from tests.demo.story import WORLD, tell


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo")
    parser.add_argument(
        "--tee",
        type=TrustedPlatform,
        default=TrustedPlatform.TPM,
        choices=tuple(TrustedPlatform),
        help="what vouches for the guests",
    )
    platform = parser.parse_args().tee
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        tell(Show(), platform)
    except PartyError as error:
        return fail(error)
    except (CcinitError, OSError) as error:  # outside of every party's step
        return fail(PartyError("the demo", str(error)))
    print(f"\n{time.monotonic() - began:.0f} seconds\ndemo: ok", flush=True)
    return 0


def fail(error: PartyError) -> int:
    """Print a failure; return the exit code."""
    files = f"all files of this run are below {WORLD}"
    print(f"\ndemo: {error}\n      {error.remedy}; {files}", file=sys.stderr, flush=True)
    return 1


def _leave(number: int, frame: FrameType | None) -> None:
    """End by an exception, so that every process that was started is ended, too."""
    print(f"\ndemo: ended by {signal.Signals(number).name}", file=sys.stderr, flush=True)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
