"""What a guest measured while it ran, said without a register."""


class MeasuredEvents:
    """Stands for `RuntimeMeasurement` where evidence is made."""

    def __init__(self, events: bytes = b"") -> None:
        self.events = events

    async def records(self) -> bytes:
        """Return the event log."""
        return self.events
