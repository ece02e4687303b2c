"""A guest's real PID 1, except that it stops after LISTEN and says when, on the serial port.

Put in place of `__main__` into a copy of the published root. Lines: `bench pid1 NOW EXECUTED` and
`bench listen NOW TOTAL AVAILABLE`; times in microseconds since the kernel began (CLOCK_BOOTTIME),
memory in KiB (/proc/meminfo).
"""

import os
import sys
import time


def say(*words: object) -> None:
    """Write one line to the serial port, where nothing else writes."""
    os.write(PORT, f"bench {' '.join(map(str, words))}\n".encode())


def now_us() -> int:
    """Return the time since the kernel began."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def read_memory() -> tuple[str, str]:
    """Return MemTotal and MemAvailable."""
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123  # no pathlib in PID 1
        rows = dict(line.split(":", 1) for line in file)
    return rows["MemTotal"].split()[0], rows["MemAvailable"].split()[0]


async def stop(*_: object) -> None:
    """Take the place of CONFIG: LISTEN is over."""
    from ccinit.kernel.task import Event  # noqa: PLC0415  # PID 1 has it by now

    say("listen", now_us(), *read_memory())
    await Event().wait()


def main() -> None:
    """Be PID 1 until LISTEN."""
    if sys.argv[1:2] == ["child"]:
        return  # there is none before CONFIG
    say("pid1", now_us(), os.environ["CCINIT_EXECUTED_US"])
    from ccinit.init.lean import disable_libraries  # noqa: PLC0415  # as in the guest's own

    disable_libraries()
    from ccinit.init import phases  # noqa: PLC0415
    from ccinit.init.main import main as init_main  # noqa: PLC0415

    phases._configure = stop  # type: ignore[assignment]
    init_main()


PORT = os.open("/dev/ttyS0", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
main()
