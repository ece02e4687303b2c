"""TCP ports of the pod that PID 1 takes before the first container starts.

The other one is the owner plane's, which `ccinit.toml` chooses (`owner.port`). CONFIG compares what
the document says with both, and has no use yet for what the planes' own modules would load.
"""

from ccinit.annotations import Final

WORKLOAD_PORT: Final = 8006
"""Of the workload API, at 127.0.0.1: the port that CoCo has given it."""
