"""Ids, records and the status that follows from them."""

import json

import pytest

from ccinit.errors import CcinitError
from host_runtime.oci_runtime.container_state import (
    ContainerRecord,
    Status,
    encode_record,
    encode_state,
    parse_id,
    parse_record,
    status_of,
)

NEW = ContainerRecord(id="a", bundle="/b", annotations={"k": "v"}, created="now")
CREATED = NEW.with_process(7)
STARTED = CREATED.with_start()


@pytest.mark.parametrize("text", ["a", "A-b_c.d+e", "0" * 200, "_x", "f00" * 21 + "a"])
def test_id_is_taken(text: str) -> None:
    assert parse_id(text) == text


@pytest.mark.parametrize(
    "text", ["", ".", "..", ".new-a", "-a", "a/b", "../a", "a b", "a\0", "a\n", "é", "0" * 201]
)
def test_hostile_id_is_refused(text: str) -> None:
    with pytest.raises(CcinitError) as error:
        parse_id(text)
    assert error.value.reason == "container.id"


@pytest.mark.parametrize(
    ("record", "is_alive", "is_busy", "expected"),
    [
        (NEW, False, True, Status.CREATING),
        (NEW, True, True, Status.CREATING),
        (NEW, False, False, Status.STOPPED),  # whoever created it was killed
        (CREATED, True, True, Status.CREATED),
        (CREATED, True, False, Status.CREATED),
        (STARTED, True, False, Status.RUNNING),
        (CREATED, False, True, Status.STOPPED),
        (STARTED, False, False, Status.STOPPED),
    ],
)
def test_status_follows_from_record_and_life(
    record: ContainerRecord, *, is_alive: bool, is_busy: bool, expected: Status
) -> None:
    assert status_of(record, is_alive=is_alive, is_busy=is_busy) is expected


def test_state_is_that_of_the_specification() -> None:
    assert json.loads(encode_state(STARTED, Status.RUNNING)) == {
        "ociVersion": "1.2.0",
        "id": "a",
        "status": "running",
        "pid": 7,
        "bundle": "/b",
        "annotations": {"k": "v"},
        "created": "now",
    }
    assert json.loads(encode_state(STARTED, Status.STOPPED))["pid"] == 0


def test_record_is_read_as_it_was_written() -> None:
    assert parse_record(encode_record(STARTED)) == STARTED
    for text in ("", "[]", "{}", '{"id": "a"}', "[" * 20_000):
        with pytest.raises(CcinitError) as error:
            parse_record(text)
        assert error.value.reason == "container.record"
