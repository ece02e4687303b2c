"""The guest boots of this run. A process counts its own: others may run beside it."""

BOOTS: list[tuple[str, float]] = []
"""Name and seconds of each, in the order of their ends."""


def record_boot(name: str, seconds: float) -> None:
    """Count a boot."""
    BOOTS.append((name, seconds))
