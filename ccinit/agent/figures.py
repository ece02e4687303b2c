"""What PID 1 costs, for the owner's log: its memory, and how soon it answered.

The proportional set size divides each shared page among its users (`/proc/PID/smaps_rollup`,
proc(5)). Stage 0 passes the time of exec in the environment, because the kernel does not record it
for PID 1.
"""

import os

EXECUTED_VARIABLE = "CCINIT_EXECUTED_US"  # set by ccinit.init.stage0
_KIB = 1024


class Figures:
    """Filled in as the boot goes.

    Attributes:
        listen_pss_bytes: when the host plane opened, before later phases loaded any library.
        evidence_made: how often the platform has delivered evidence.
        phase_seconds: how long each phase took, by name.
        image_bytes: total size of the files of each image, by its name in the manifest.
    """

    def __init__(self) -> None:
        self.listen_pss_bytes = 0
        self.evidence_made = 0
        self.phase_seconds: dict[str, float] = {}
        self.image_bytes: dict[str, int] = {}

    def describe(self, first_answer_us: int) -> str:
        """Return the line for the log, once the pod runs.

        Args:
            first_answer_us: boot time of the first answer to the host.
        """
        executed_us = int(os.environ.get(EXECUTED_VARIABLE, "0"))
        milliseconds = (first_answer_us - executed_us) // 1000
        return (
            f"pid1 pss_bytes={read_pss_bytes()} listen_pss_bytes={self.listen_pss_bytes} "
            f"exec_to_rpc_ms={milliseconds}"
        )


def read_pss_bytes() -> int:
    """Return the proportional set size of this process."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name == "Pss":
                return int(rest.split()[0]) * _KIB
    return 0


def read_memory() -> dict[str, int]:
    """Return the lines of /proc/meminfo (proc(5)) in bytes."""
    memory = {}
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            memory[name] = int(rest.split()[0]) * _KIB
    return memory
