"""What starts before what, and an order that cannot be."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.pod.container import Container, ContainerKind, Resources, Restart
from ccinit.formats.pod.order import plan_start_order
from ccinit.formats.pod.probe import START_SECONDS, Probe
from ccinit.values import replace

INIT = ContainerKind.INIT


def container(
    name: str,
    *depends_on: str,
    kind: ContainerKind = ContainerKind.MAIN,
    restart: Restart = Restart.NEVER,
) -> Container:
    return Container(
        name=name,
        image="image",
        kind=kind,
        args=(),
        env=(),
        user=None,
        cwd=None,
        read_only=True,
        restart=restart,
        depends_on=depends_on,
        resources=Resources(),
        mounts=(),
    )


def test_order_is_init_first_then_waves_as_listed() -> None:
    order = plan_start_order(
        (
            container("app", "db", "prepare"),
            container("prepare", kind=INIT),
            container("migrate", "prepare", kind=INIT),
            container("metrics"),
            container("web", "app"),
            container("db"),
        )
    )
    assert order.init == ("prepare", "migrate")
    assert order.waves == (("metrics", "db"), ("app",), ("web",))


@pytest.mark.parametrize(
    ("containers", "key"),
    [
        ((container("a", "b"), container("b", "a")), "depends_on"),
        ((container("a", "a"),), "depends_on"),
        ((container("a", "b", kind=INIT), container("b")), "depends_on"),
        ((container("a", "b", kind=INIT), container("b", kind=INIT)), "depends_on"),
        ((container("a", kind=INIT, restart=Restart.ALWAYS),), "restart"),
    ],
)
def test_order_that_cannot_be_is_refused(containers: tuple[Container, ...], key: str) -> None:
    with pytest.raises(FormatError) as error:
        plan_start_order(containers)
    assert error.value.reason == f"pod.container.{key}"


def asked_after(delay_seconds: int, one: Container) -> Container:
    """Return the container with a probe that START waits for."""
    probe = Probe(
        exec=(),
        tcp_port=80,
        delay_seconds=delay_seconds,
        period_seconds=1,
        timeout_seconds=1,
    )
    return replace(one, ready=probe)


def test_probes_that_wait_for_each_other_have_one_deadline() -> None:
    beside = (asked_after(START_SECONDS - 1, container(name)) for name in "ab")
    assert len(plan_start_order(beside).waves) == 1
    early = asked_after(START_SECONDS - 2, container("a"))
    late = asked_after(1, container("b", "a"))
    init = asked_after(START_SECONDS - 1, container("i", kind=INIT))  # nobody waits for its probe
    assert len(plan_start_order((init, early, late, container("c", "b"))).waves) == 3
    with pytest.raises(FormatError) as error:
        plan_start_order((early, asked_after(2, container("b", "a"))))
    assert error.value.reason == "pod.container.ready"
    assert f"{START_SECONDS} s" in error.value.detail
