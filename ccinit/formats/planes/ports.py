"""TCP ports of the pod that PID 1 binds before the first container starts, for whoever reads no
request: the modules of the planes themselves load more.
"""

from ccinit.annotations import Final

WORKLOAD_PORT: Final = 8006
"""At 127.0.0.1: CoCo's."""
