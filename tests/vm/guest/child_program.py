"""A child of PID 1 whose role `config` takes memory. Run like `ccinit child …`."""

import sys
from collections.abc import Mapping

from ccinit.agent.processes.child import JobChannel, main
from ccinit.agent.processes.roles import RIGHTS, Rights, Role
from ccinit.values import frozen, replace


@frozen
class Appetite:
    """How much memory to take, and touch."""

    size_bytes: int


def swallow(appetite: Appetite, _channel: JobChannel) -> Appetite:
    return Appetite(size_bytes=len(bytearray(b"x") * appetite.size_bytes))


TABLE: Mapping[Role, Rights] = {
    **RIGHTS,
    Role.CONFIG: replace(RIGHTS[Role.CONFIG], job="tests.vm.guest.child_program:swallow"),
}

if __name__ == "__main__":
    # Under its own name too, or the job would see other classes than this file's.
    sys.modules["tests.vm.guest.child_program"] = sys.modules["__main__"]
    main(sys.argv[2:], TABLE)
