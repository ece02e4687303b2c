"""Children that this process owns: whoever starts one has to collect it."""

from ccinit.kernel import process


def owned_pids() -> tuple[int, ...]:
    """Return the pids of owned children that were not collected yet."""
    return tuple(process._owned)
