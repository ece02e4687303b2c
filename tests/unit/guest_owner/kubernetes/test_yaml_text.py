"""A Pod's YAML says to us what it says to a cluster; the values here are what kubectl makes."""

import pytest

from ccinit.errors import FormatError
from guest_owner.kubernetes.yaml_text import load_yaml
from tests.unit.guest_owner.kubernetes.pods import POD, convert


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        *(("2001-12-14", "2001-12-14"), ("2001-12-14t21:59:43.10Z", "2001-12-14t21:59:43.10Z")),
        *(("22:22", "22:22"), ("190:20:30.15", "190:20:30.15"), ("2026-02-31", "2026-02-31")),
        *(("=", "="), ("0o8", "0o8"), ("_1", "_1"), ("1.2.3", "1.2.3"), ("1e", "1e"), ("-x", "-x")),
        *(("yEs", "yEs"), ("nULL", "nULL"), (".5_0", ".5_0"), ("'y'", "y"), ('"017"', "017")),
        *(("y", True), ("Y", True), ("yes", True), ("On", True), ("TRUE", True)),
        *(("n", False), ("N", False), ("no", False), ("OFF", False), ("false", False)),
        *(("017", 15), ("0o17", 15), ("-0O17", -15), ("0x1F", 31), ("0b11", 3), ("-0B11", -3)),
        *(("1_000", 1000), ("+1", 1), ("-0", 0), ("0_7", 7), ("1_", 1), ("0x_1", 1)),
        *(("08", 8), ("1e3", 1000), ("1.", 1), ("1.5e3", 1500), ("0.1e1", 1), ("1_0e1_0", 10**11)),
        *((".5", 0.5), ("+.5", 0.5), ("09.5", 9.5), ("1_0.5", 10.5)),
    ],
)
def test_a_plain_scalar_is_what_a_cluster_reads(said: str, expected: object) -> None:
    found = load_yaml(f"value: {said}")
    assert found == {"value": expected}
    assert isinstance(found, dict)
    assert type(found["value"]) is type(expected)


@pytest.mark.parametrize("said", [".inf", "-.INF", ".nan", "1e400", f"1{'0' * 5000}.0"])
def test_what_json_has_no_number_for_is_no_number(said: str) -> None:
    """A cluster refuses the first three, and takes what is beyond a float for text."""
    with pytest.raises(FormatError) as caught:
        convert(POD.replace("periodSeconds: 3", f"periodSeconds: {said}"))
    assert caught.value.reason in {"kubernetes.yaml", "kubernetes.periodSeconds"}


@pytest.mark.parametrize("null", ["", "~", "null", "Null", "NULL"])
def test_a_key_without_a_value_is_as_absent(null: str) -> None:
    """Templates leave such keys behind; to a cluster they say nothing."""
    assert load_yaml(f"a: {null}\nb: {{c: {null}}}\nd: 1") == {"b": {}, "d": 1}
    keys = f"    envFrom: {null}\n    lifecycle: {null}\n"
    more = POD.replace("    workingDir", f"{keys}    workingDir")
    assert convert(more.replace("  initC", f"  securityContext: {null}\n  initC")) == convert()


def test_a_number_of_a_pod_may_be_written_as_a_cluster_reads_it() -> None:
    assert convert(POD.replace("periodSeconds: 3", "periodSeconds: 0o3")) == convert()
    assert convert(POD.replace("runAsUser: 1000", "runAsUser: 1e3")) == convert()


def test_a_key_without_a_value_is_still_no_second_one() -> None:
    with pytest.raises(FormatError) as caught:
        load_yaml("a: ~\na: 1")
    assert caught.value.reason == "kubernetes.duplicate"
    assert load_yaml("b: ~\na: 1") == {"a": 1}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("{<<: *one, key: 3}", {"key": 3, "more": 1}),
        ("{<<: [*one, *two]}", {"key": 1, "more": 1}),
        ("{<<: [*two, *one], more: 3}", {"key": 2, "more": 3}),
        ("{more: 3, <<: *two}", {"key": 2, "more": 3}),
        ("{<<: [{key: ~}, *one]}", {"more": 1}),
        ("{<<: {<<: *one, key: 3}, more: ~}", {"key": 3}),
        ("{<<: *deep}", {"key": 2, "more": 1}),
        ("&self {<<: *self, key: 1}", {"key": 1}),
        ('{"<<": 1}', {"<<": 1}),
    ],
)
def test_keys_are_merged_as_a_cluster_merges_them(said: str, expected: object) -> None:
    """But for a mapping within itself, of which a cluster has none."""
    anchors = "a: [&one {key: 1, more: 1}, &two {key: 2}]\nb: {c: &deep {<<: *one, key: 2}}\n"
    found = load_yaml(f"{anchors}value: {said}")
    assert isinstance(found, dict)
    assert (found["value"], found["b"]) == (expected, {"c": {"key": 2, "more": 1}})


@pytest.mark.parametrize("said", ["{key: 1, <<: {key: 2}}", "{key: 1, <<: [{a: 1}, {key: 2}]}"])
def test_own_key_before_one_that_is_merged_is_refused(said: str) -> None:
    """A cluster takes the latter, other readers of YAML the former."""
    with pytest.raises(FormatError) as caught:
        load_yaml(said)
    assert caught.value.reason == "kubernetes.duplicate"
    assert "write it first: ['key']" in caught.value.detail
    found = load_yaml(said.replace("key: 1", "own: 1"))
    assert isinstance(found, dict)
    assert (found["own"], found["key"]) == (1, 2)


@pytest.mark.parametrize("merged", ["{key: 1, key: 2}", "[{a: 1}, {key: 1, key: 2}]"])
def test_a_key_is_not_written_twice_in_what_is_merged(merged: str) -> None:
    with pytest.raises(FormatError) as caught:
        load_yaml(f"value: {{<<: {merged}}}")
    assert caught.value.reason == "kubernetes.duplicate"
    assert load_yaml(f"value: {{<<: {merged.replace(', key: 2', '')}}}")


@pytest.mark.parametrize("merged", ["1", "~", "[{a: 1}, 2]"])
def test_only_mappings_are_merged(merged: str) -> None:
    with pytest.raises(FormatError) as caught:
        load_yaml(f"value: {{<<: {merged}}}")
    assert (caught.value.reason, "<<" in caught.value.detail) == ("kubernetes.yaml", True)


@pytest.mark.parametrize(
    "around", ["{}---\n", "---\n# from a template\n---\n{}", "{}...\n---\n~\n"]
)
def test_an_empty_document_beside_the_pod_says_nothing(around: str) -> None:
    """Templates leave these behind, too."""
    assert convert(around.replace("{}", POD)) == convert()


def test_a_second_document_is_refused() -> None:
    with pytest.raises(FormatError) as caught:
        load_yaml("a: 1\n---\nb: 2\n")
    assert caught.value.reason == "kubernetes.yaml"
    assert "expected one document, found 2" in caught.value.detail
