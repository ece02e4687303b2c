"""Stands for a container's life: enters its cgroup, then uses memory and starts a child there.

Started as `python -m … FOLDER GUEST_MIB`; prints one line, the child's pid or a refusal's reason,
and goes on until its input ends.
"""

import subprocess
import sys
from pathlib import Path

from ccinit.errors import CcinitError
from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.container_cgroup import take_cgroup

USED_BYTES = 32 << 20


def main() -> None:
    """Live."""
    container = Container(folder=Path(sys.argv[1]))
    try:
        take_cgroup(container, guest_mib=int(sys.argv[2]))
    except CcinitError as error:
        print(error.reason, error.detail, flush=True)
        return
    used = b"\1" * USED_BYTES
    with subprocess.Popen(
        ("/usr/bin/python3.13", "-c", "import sys; sys.stdin.read()"), stdin=subprocess.PIPE
    ) as child:
        print(child.pid, flush=True)
        sys.stdin.read()
    del used


if __name__ == "__main__":
    main()
