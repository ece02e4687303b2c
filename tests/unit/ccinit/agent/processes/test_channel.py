"""Frames between PID 1 and a child, and errors as they travel."""

import struct

import pytest

from ccinit.agent.processes.channel import (
    DETAIL_CHARACTERS,
    FAMILIES,
    Failure,
    FrameReader,
    Kind,
    Named,
    describe_error,
    encode_frame,
    encode_named,
    printable,
    to_error,
)
from ccinit.attest.refusal import refusal
from ccinit.errors import (
    CcinitError,
    ChildError,
    KernelError,
    LimitExceededError,
    PeerError,
    VerificationError,
)
from ccinit.formats.encoding import wire

VALUE = Named(name="Question", body=b"body")


def test_frames_are_cut_whole_and_byte_by_byte() -> None:
    stream = encode_frame(Kind.QUESTION, VALUE) + encode_frame(Kind.RESULT, VALUE)
    whole = list(FrameReader(1000).feed(stream))
    reader = FrameReader(1000)
    pieces = [frame for byte in stream for frame in reader.feed(bytes((byte,)))]
    assert whole == pieces
    assert [kind for kind, _ in whole] == [Kind.QUESTION, Kind.RESULT]
    assert wire.decode(Named, whole[0][1]) == VALUE


@pytest.mark.parametrize("length", [0, 101, 0xFFFF_FFFF])
def test_frame_of_a_bad_length_is_refused_before_its_body(length: int) -> None:
    with pytest.raises(LimitExceededError) as error:
        list(FrameReader(100).feed(struct.pack(">I", length)))
    assert error.value.reason == "child.frame"


def test_frame_as_long_as_the_cap_is_taken() -> None:
    frames = list(FrameReader(100).feed(struct.pack(">IB", 100, Kind.RESULT) + bytes(99)))
    assert frames == [(Kind.RESULT, bytes(99))]


def test_frame_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ChildError) as error:
        list(FrameReader(100).feed(struct.pack(">IB", 1, 99)))
    assert error.value.reason == "child.protocol"


def test_named_value_carries_its_class() -> None:
    ((kind, payload),) = FrameReader(1000).feed(encode_named(Kind.NOTICE, VALUE))
    named = wire.decode(Named, payload)
    assert (kind, named.name) == (Kind.NOTICE, "Named")
    assert wire.decode(Named, named.body) == VALUE


@pytest.mark.parametrize(
    "error",
    [
        VerificationError("pull.digest", "another"),
        LimitExceededError("initdata.size", "2 MiB"),
        PeerError("kbs.status", "403"),
        KernelError(5, "dm", "volume"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_of_ours_arrives_as_it_was(error: CcinitError) -> None:
    arrived = to_error(describe_error(error))
    assert type(arrived) is type(error)
    assert (arrived.reason, arrived.detail) == (error.reason, error.detail)
    assert getattr(arrived, "errno", None) == getattr(error, "errno", None)


def test_error_of_a_rooms_own_kind_arrives_in_its_family() -> None:
    arrived = to_error(describe_error(refusal(403, b"")))
    assert type(arrived) is PeerError
    assert arrived.reason == "kbs.forbidden"


def test_stray_error_arrives_without_its_text() -> None:
    with pytest.raises(ValueError, match="a secret") as caught:
        int("a secret")
    failure = describe_error(caught.value)
    assert failure.family == "ChildError"
    assert failure.reason == "child.exception"
    assert failure.detail.startswith("ValueError at ")
    assert "secret" not in failure.detail


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        pytest.param("SystemExit", "a.b", id="unknown family"),
        pytest.param("CcinitError", "a.b", id="root of all families"),
        pytest.param("PeerError", "", id="no reason"),
        pytest.param("PeerError", "a b\n", id="reason with other letters"),
        pytest.param("PeerError", "a" * 65, id="long reason"),
    ],
)
def test_failure_that_no_child_of_ours_sends_is_a_protocol_error(family: str, reason: str) -> None:
    error = to_error(Failure(family=family, reason=reason, detail="", errno=0))
    assert type(error) is ChildError
    assert error.reason == "child.protocol"


def test_detail_is_cut_and_made_printable() -> None:
    error = to_error(
        Failure(family="PeerError", reason="kbs.x", detail="\x1b[2Jé\n" + "a" * 9000, errno=0)
    )
    assert error.detail.startswith("?[2J??aaa")
    assert len(error.detail) == DETAIL_CHARACTERS
    assert printable("plain text ~") == "plain text ~"


def test_families_are_every_error_but_the_root_and_the_kernels() -> None:
    def below(family: type[CcinitError]) -> set[type[CcinitError]]:
        return {family, *(deep for child in family.__subclasses__() for deep in below(child))}

    ours = {family for family in below(CcinitError) if family.__module__ == "ccinit.errors"}
    assert set(FAMILIES.values()) == ours - {CcinitError, KernelError}
