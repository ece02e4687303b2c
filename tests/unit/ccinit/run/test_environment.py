"""The variables of a container: what of image, manifest and secrets counts (R70)."""

import pytest

from ccinit.errors import CcinitError, LimitExceededError
from ccinit.run.spec import (
    MAX_ENVIRONMENT_BYTES,
    plan_environment,
)
from ccinit.run.workload import Workload
from ccinit.values import replace
from tests.fakes.documents.containers import CONTAINER, IMAGE
from tests.unit.ccinit.run.workloads import IDENTITY, changed, plan


def test_environment_is_image_then_manifest_then_secrets() -> None:
    given = changed(
        container=replace(CONTAINER, env=(("A", "2"), ("B", "x=y\nz"))), secret_env=(("B", "s"),)
    )
    assert plan_environment(given, IDENTITY) == (
        *("PATH=/bin", "A=2", "HOME=/home/web", "HOSTNAME=pod", "B=s"),
    )


def test_variables_that_are_secrets_are_in_no_text_of_a_value() -> None:
    given = changed(secret_env=(("TOKEN", "c4n4ry"),))
    assert "TOKEN=c4n4ry" in plan(given)["process"]["env"]
    assert "c4n4ry" not in repr(given)


def test_environment_has_path_and_home_in_any_case() -> None:
    bare = changed(image=replace(IMAGE, env=()))
    path, home, host = plan_environment(bare, replace(IDENTITY, home=""))
    assert path.startswith("PATH=/usr/local/sbin:")
    assert (home, host) == ("HOME=/", "HOSTNAME=pod")
    own = changed(image=replace(IMAGE, env=("HOME=/mine", "HOSTNAME=0.0.0.0")))
    assert plan_environment(own, IDENTITY)[:2] == ("HOME=/mine", "HOSTNAME=0.0.0.0")


@pytest.mark.parametrize(
    "env",
    [
        ("NOVALUE",),
        ("=value",),
        ("A\nB=1",),
        ("A\x1b=1",),
        ("A=\0",),
        ("A\0=1",),
        tuple(f"N{number}=1" for number in range(1025)),
        ("A=" + "x" * (1 << 20),),
    ],
)
def test_r70_environment_malformed_is_refused(env: tuple[str, ...]) -> None:
    with pytest.raises(CcinitError) as error:
        plan_environment(changed(image=replace(IMAGE, env=env)), IDENTITY)
    assert error.value.reason == "run.env"


@pytest.mark.parametrize("name", ["", "A=B", "A\nB", "A\0"])
def test_variable_whose_name_is_none_is_refused_wherever_it_is_from(name: str) -> None:
    for given in (
        changed(container=replace(CONTAINER, env=((name, "1"),))),
        changed(secret_env=((name, "1"),)),
    ):
        with pytest.raises(CcinitError) as error:
            plan_environment(given, IDENTITY)
        assert error.value.reason == "run.env"


def test_environment_has_a_cap_of_bytes_and_of_variables() -> None:
    most = changed(container=replace(CONTAINER, env=tuple((f"N{n}", "") for n in range(1020))))
    assert len(plan_environment(most, IDENTITY)) == 1024

    def with_bytes(count: int) -> Workload:
        return changed(image=replace(IMAGE, env=("A=" + "x" * count,)))

    used = sum(len(text) + 1 for text in plan_environment(with_bytes(0), IDENTITY))
    assert plan_environment(with_bytes(MAX_ENVIRONMENT_BYTES - used), IDENTITY)
    with pytest.raises(LimitExceededError) as error:
        plan_environment(with_bytes(MAX_ENVIRONMENT_BYTES - used + 1), IDENTITY)
    assert error.value.reason == "run.env"
