"""Which paths of a bundle name a cgroup."""

import pytest

from ccinit.errors import ConfigError
from host_runtime.oci_runtime.cgroup_path import parse_cgroup_path


def test_path_is_the_names_that_lead_to_a_cgroup() -> None:
    of_pod = "/kubepods/burstable/pod6b1f/3c9a"
    assert parse_cgroup_path(of_pod) == ("kubepods", "burstable", "pod6b1f", "3c9a")
    assert parse_cgroup_path("/a:b:c") == ("a:b:c",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kubepods/3c9a", "cgroup.path"),
        ("", "cgroup.path"),
        ("/", "cgroup.path"),
        ("/a/", "cgroup.path"),
        ("/a//b", "cgroup.path"),
        ("/a/../b", "cgroup.path"),
        ("/a/./b", "cgroup.path"),
        ("/..", "cgroup.path"),
        ("/a\0b", "cgroup.path"),
    ],
)
def test_path_that_leads_elsewhere_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_cgroup_path(text)
    assert error.value.reason == reason
