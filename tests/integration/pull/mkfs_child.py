"""A child of PID 1 whose program is the tools tree's mkfs.erofs, by that tree's own loader.

Run like `ccinit child …`, with the tools tree in $CCINIT_TOOLS. Rights are those of the role.
"""

import sys
from collections.abc import Mapping

from ccinit.agent.processes.child import main
from ccinit.agent.processes.roles import RIGHTS, Rights, Role
from ccinit.values import replace
from tests.integration.pull.real_registry import TOOLS

ROOT = TOOLS.path.resolve()
LOADER = str(ROOT / "lib64/ld-linux-x86-64.so.2")
LOADER_ARGUMENTS = (
    *("--library-path", str(ROOT / "usr/lib/x86_64-linux-gnu")),
    str(ROOT / "usr/bin/mkfs.erofs"),
)
TABLE: Mapping[Role, Rights] = {
    **RIGHTS,
    Role.COMPRESS: replace(RIGHTS[Role.COMPRESS], job=LOADER, read=(str(ROOT / "usr"),)),
}

if __name__ == "__main__":
    main(sys.argv[2:], TABLE)
