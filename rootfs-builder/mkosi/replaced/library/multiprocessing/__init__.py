"""Stands in for multiprocessing: pyroute2 would enter other network namespaces by its processes.

The guest's child for the network stays in its own, and may start nothing. The library's own brings
pickle, with which a process runs whatever another one has written.
"""


class Process:
    """Named by pyroute2; nobody starts one."""

    def __init__(self, **_arguments: object) -> None:
        """Refuse."""
        raise RuntimeError("no worker processes in this image")


def Pipe() -> None:  # noqa: N802  # as in the library
    """Refuse."""
    raise RuntimeError("no worker processes in this image")


Queue = Pipe
