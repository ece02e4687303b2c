"""The job's table has a way to each platform's register of events."""

from ccinit.agent.jobs.extend import BOUNDARIES, REGISTERS
from ccinit.measure.register import DEBUG_REGISTERS, EVENT_REGISTERS


def test_every_event_register_can_be_opened() -> None:
    assert set(REGISTERS) == set(EVENT_REGISTERS)
    assert set(BOUNDARIES) == set(DEBUG_REGISTERS)
