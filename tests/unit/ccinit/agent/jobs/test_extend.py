"""The job's table has a way to each platform's register of events."""

from ccinit.agent.jobs.extend import REGISTERS
from ccinit.measure.register import EVENT_REGISTERS


def test_every_event_register_can_be_opened() -> None:
    assert set(REGISTERS) == set(EVENT_REGISTERS)
