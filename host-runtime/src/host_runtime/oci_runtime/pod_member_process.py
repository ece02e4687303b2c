"""The process that stands for a pod's container: it waits, and ends with the pod's guest.

The container itself runs in the guest, out of the host's reach.
"""

from collections.abc import Sequence
from typing import Final

from host_runtime.oci_runtime.container import Container
from host_runtime.oci_runtime.container_cgroup import take_cgroup
from host_runtime.oci_runtime.container_end import container_end
from host_runtime.oci_runtime.life import Creator, live, say
from host_runtime.oci_runtime.pod_log import copied_pod_log

MODULE: Final = "host_runtime.oci_runtime.pod_member_process"


def main(arguments: Sequence[str] | None = None) -> int:
    """Stand for a container; return its guest's exit status."""
    return live(MODULE, arguments, _stand_for)


def _stand_for(container: Container, creator: Creator) -> int:
    record = container.record()
    take_cgroup(container)
    sandbox = Container(folder=container.folder.parent / record.sandbox)
    sandbox.hold_member(record.member, record.bundle)
    with container_end(sandbox) as end:
        creator.await_record()
        say(f"{record.member} runs in the guest of {record.sandbox}, as its document says")
        with copied_pod_log(sandbox):
            status = end.wait()
    say(f"ended with the guest; exit status {status}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
