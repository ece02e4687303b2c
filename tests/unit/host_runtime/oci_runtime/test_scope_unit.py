"""Which units of systemd's a bundle may name, and where their cgroups are."""

import pytest

from ccinit.errors import ConfigError
from host_runtime.oci_runtime.scope_unit import ScopeUnit, parse_scope_unit


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            "kubepods-burstable-pod6b1f_22.slice:cri-containerd:3c9a",
            (
                "kubepods.slice",
                "kubepods-burstable.slice",
                "kubepods-burstable-pod6b1f_22.slice",
                "cri-containerd-3c9a.scope",
            ),
        ),
        ("machine.slice:libpod:3c9a", ("machine.slice", "libpod-3c9a.scope")),
        (":docker:3c9a", ("system.slice", "docker-3c9a.scope")),
        ("-.slice:c:a", ("c-a.scope",)),
        ("a.slice::a", ("a.slice", "a.scope")),
        ("a.slice:c:a.slice", ("a.slice", "c-a.slice.scope")),
    ],
)
def test_unit_is_below_every_slice_that_its_own_is_part_of(
    text: str, names: tuple[str, ...]
) -> None:
    unit = parse_scope_unit(text)
    assert unit is not None
    assert unit.names == names
    assert unit.name == names[-1]


def test_path_is_no_unit() -> None:
    for text in ("/a:b:c", "/kubepods/a", "a.slice:b", "a.slice:b:c:d", ""):
        assert parse_scope_unit(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "a:c:a",
        "a.scope:c:a",
        ".slice:c:a",
        "--.slice:c:a",
        "-a.slice:c:a",
        "a-.slice:c:a",
        "a--b.slice:c:a",
        "a/b.slice:c:a",
        "../a.slice:c:a",
        "a\\x2fb.slice:c:a",
        "a@b.slice:c:a",
        "a\n.slice:c:a",
        "a.slice\n:c:a",
        "ä.slice:c:a",
        "%i.slice:c:a",
        "a.slice:c:",
        "a.slice::",
        "a.slice:-c:a",
        "a.slice:c:../a",
        "a.slice:c/d:a",
        "a.slice:c:a\0",
        "a.slice:c:a\n",
        "a.slice:c:a b",
        "a.slice:c:a\\x2d",
        f"a.slice:c:{'a' * 248}",
        f"{'a' * 250}.slice:c:a",
    ],
)
def test_name_that_systemd_has_not_or_reads_otherwise_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_scope_unit(text)
    assert error.value.reason == "cgroup.path"


def test_longest_names_are_those_that_systemd_has() -> None:
    unit = ScopeUnit(name=f"c-{'a' * 247}.scope", slice=f"{'a' * 249}.slice")
    assert (len(unit.name), len(unit.slice)) == (255, 255)
    assert parse_scope_unit(f"{unit.slice}:c:{'a' * 247}") == unit
