"""The write-ahead rule: what is announced, settled, repeated, and refused."""

import hashlib

import pytest

from ccinit.errors import KernelError, LimitExceededError, VerificationError
from ccinit.formats.tcg.aael import AaelEvent
from ccinit.formats.tcg.event_log import Algorithm, encode_header, parse_event_log
from ccinit.measure.event_log import MAX_LOG_BYTES, EventLog, Extension, extend_register

ONE = AaelEvent(domain="ccinit", operation="StartContainer", content='{"container":"a"}')
TWO = AaelEvent(domain="ccinit", operation="StartContainer", content='{"container":"b"}')


class Register:
    """A register that may break down after some extends."""

    def __init__(self, algorithm: Algorithm, *, works: int = 100) -> None:
        self.algorithm = algorithm
        self.value = bytes(algorithm.digest_bytes)
        self.works = works

    def extend(self, digest: bytes) -> None:
        if self.works == 0:
            raise KernelError(5, "write", "register")
        self.works -= 1
        self.value = hashlib.new(self.algorithm.name.lower(), self.value + digest).digest()

    def read(self) -> bytes:
        return self.value


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_settled_events_are_records_that_replay_to_the_register(algorithm: Algorithm) -> None:
    log, register = EventLog(4, algorithm), Register(algorithm)
    for events in ((ONE,), (TWO, ONE)):
        log.settle(extend_register(register, log.announce(events), algorithm))
    parsed = parse_event_log(encode_header(algorithm) + log.records, algorithm)
    assert [event.data for event in parsed.events] == [
        event.to_tagged_event() for event in (ONE, TWO, ONE)
    ]
    assert parsed.replay(4, algorithm) == log.value == register.value != bytes(len(log.value))


def test_announced_events_are_no_records_yet() -> None:
    log = EventLog(4, Algorithm.SHA384)
    log.announce((ONE,))
    assert (log.records, log.value) == (b"", bytes(48))


@pytest.mark.parametrize("works", range(4))
def test_extension_that_broke_down_is_finished_by_the_next(works: int) -> None:
    algorithm = Algorithm.SHA256
    log, register = EventLog(14, algorithm), Register(algorithm, works=works)
    if works < 3:
        with pytest.raises(KernelError):
            extend_register(register, log.announce((ONE, TWO, ONE)), algorithm)
    else:
        # everything was done, and the answer was lost
        extend_register(register, log.announce((ONE, TWO, ONE)), algorithm)
    register.works = 100
    again = log.announce((TWO,))
    assert again.digests == tuple(event.digest(algorithm) for event in (ONE, TWO, ONE, TWO))
    log.settle(extend_register(register, again, algorithm))
    assert register.works == 100 - (4 - works)
    undisturbed = Register(algorithm)
    for digest in again.digests:
        undisturbed.extend(digest)
    assert log.value == register.value == undisturbed.value


def test_register_that_somebody_else_extended_is_refused_untouched() -> None:
    register = Register(Algorithm.SHA384)
    register.extend(bytes(48))
    before = register.value
    with pytest.raises(VerificationError) as caught:
        extend_register(register, EventLog(4, Algorithm.SHA384).announce((ONE,)), Algorithm.SHA384)
    assert caught.value.reason == "event_log.register"
    assert register.value == before


def test_register_that_does_not_hold_what_it_was_given_is_refused() -> None:
    class Forgetful(Register):
        def extend(self, digest: bytes) -> None:
            pass

    extension = EventLog(4, Algorithm.SHA384).announce((ONE,))
    with pytest.raises(VerificationError) as caught:
        extend_register(Forgetful(Algorithm.SHA384), extension, Algorithm.SHA384)
    assert caught.value.reason == "event_log.register"


def test_settling_with_another_value_is_refused_and_changes_nothing() -> None:
    log = EventLog(4, Algorithm.SHA384)
    log.announce((ONE,))
    with pytest.raises(VerificationError) as caught:
        log.settle(bytes(48))
    assert caught.value.reason == "event_log.register"
    assert log.records == b""


def test_nothing_to_extend_reads_the_register_only() -> None:
    register = Register(Algorithm.SHA256, works=0)
    extension = Extension(before=bytes(32), digests=())
    assert extend_register(register, extension, Algorithm.SHA256) == bytes(32)


def test_log_that_is_full_takes_no_more() -> None:
    algorithm = Algorithm.SHA256
    log, register = EventLog(14, algorithm), Register(algorithm, works=1 << 20)
    large = AaelEvent(domain="d", operation="o", content="x" * 4000)

    def fill() -> None:
        while True:
            log.settle(extend_register(register, log.announce((large,)), algorithm))

    with pytest.raises(LimitExceededError) as caught:
        fill()
    assert caught.value.reason == "event_log.full"
    assert MAX_LOG_BYTES - 4200 < len(log.records) <= MAX_LOG_BYTES
    log.settle(extend_register(register, log.announce((ONE,)), algorithm))
