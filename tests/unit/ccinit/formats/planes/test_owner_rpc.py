"""The owner plane's schema: who may call what, and what a value may be."""

import hashlib

import pytest

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.planes.owner_rpc import (
    DEBUG_CONTAINER,
    METHODS,
    ClientRole,
    Field,
    Kind,
    Stream,
    Text,
    Texts,
    are_valid,
    is_valid,
    report_data,
)
from ccinit.formats.pod.name import read_name


def test_roles_include_the_ones_before_them() -> None:
    assert [[role.includes(other) for other in ClientRole] for role in ClientRole] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_what_changes_the_pod_needs_more_than_logs() -> None:
    acting, changing = {"exec", "copy", "signal"}, {"open_debug", "rotate"}
    assert {name for name, one in METHODS.items() if one.role is ClientRole.LOGS} == (
        METHODS.keys() - acting - changing
    )
    assert {METHODS[name].role for name in acting} == {ClientRole.EXEC}
    assert {METHODS[name].role for name in changing} == {ClientRole.ADMIN}


def test_no_container_can_be_called_like_the_debug_environment() -> None:
    assert read_name(Fields({"name": "debug"}, "pod"), "name", "pod") == "debug"
    with pytest.raises(FormatError) as refused:
        read_name(Fields({"name": DEBUG_CONTAINER}, "pod"), "name", "pod")
    assert refused.value.reason == "pod.name"


def test_only_what_acts_takes_data() -> None:
    inbound = {Stream.INPUT, Stream.RESIZE}
    assert {name for name, one in METHODS.items() if inbound & set(one.streams)} == {
        "exec",
        "copy",
    }


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Text(4), ("", "four", "éé"), (b"", "five5", "ééé", "a\0", 1, None)),
        (Texts(2, 2), ((), ("a",), ("aa", "bb")), (("aaa",), ("a",) * 3, ["a"], "a", (1,))),
    ],
)
def test_texts_have_lengths_in_bytes(
    kind: Kind, good: tuple[object, ...], bad: tuple[object, ...]
) -> None:
    assert all(is_valid(kind, value) for value in good)
    assert not any(is_valid(kind, value) for value in bad)


def test_values_are_as_many_as_fields() -> None:
    fields = (Field("a", Text(1)), Field("b", Text(1)))
    assert are_valid(fields, ("x", "y"))
    assert not are_valid(fields, ("x",))
    assert not are_valid(fields, ("x", "y", "z"))


def test_report_data_is_bound_to_nonce_and_certificate_under_a_domain_of_its_own() -> None:
    expected = hashlib.sha512(b"ccinit/owner/v1\0" + b"n" * 32 + hashlib.sha256(b"der").digest())
    assert report_data(b"n" * 32, b"der") == expected.digest()
