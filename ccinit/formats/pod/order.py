"""In which order containers start, by their `kind` and `depends_on`."""

from collections.abc import Iterable

from ccinit.errors import FormatError
from ccinit.formats.pod.container import Container, ContainerKind, Restart
from ccinit.formats.pod.probe import START_SECONDS
from ccinit.values import frozen

_WAITS = "pod.container.depends_on"


@frozen
class StartOrder:
    """Names of containers.

    Attributes:
        init: start one after another, each once the one before has succeeded.
        waves: main containers; a wave starts once the one before is running and ready.
    """

    init: tuple[str, ...]
    waves: tuple[tuple[str, ...], ...]


def plan_start_order(containers: Iterable[Container]) -> StartOrder:
    """Order containers by kind and `depends_on`, then as the manifest lists them.

    Raises:
        FormatError: `pod.container.depends_on`, an init container depends on one that starts later,
            or main ones depend on each other; `pod.container.restart`, an init container would
            always be restarted; `pod.container.ready`, probes that wait for each other would be
            asked too late.
    """
    listed = tuple(containers)
    init = tuple(one for one in listed if one.kind is ContainerKind.INIT)
    earlier: set[str] = set()
    for one in init:
        if one.restart is Restart.ALWAYS:
            reason = "pod.container.restart"
            raise FormatError(reason, f"{one.name} has to end, and is always restarted")
        for name in one.depends_on:
            if name not in earlier:
                raise FormatError(_WAITS, f"{one.name} waits for {name}, which starts later")
        earlier.add(one.name)
    main = [one for one in listed if one.kind is ContainerKind.MAIN]
    waves = _waves(main, earlier)
    _check_delays(main, waves)
    return StartOrder(init=tuple(one.name for one in init), waves=waves)


def _check_delays(main: list[Container], waves: tuple[tuple[str, ...], ...]) -> None:
    """Refuse probes whose delays, one wave after another, take as long as START may."""
    delays = {one.name: one.ready.delay_seconds for one in main if one.ready is not None}
    total = sum(max(delays.get(name, 0) for name in wave) for wave in waves)
    if total >= START_SECONDS:
        detail = f"delays that follow each other take {total} s, and START has {START_SECONDS} s"
        raise FormatError("pod.container.ready", detail)


def _waves(main: list[Container], started: set[str]) -> tuple[tuple[str, ...], ...]:
    waves: list[tuple[str, ...]] = []
    started = set(started)
    while main:
        ready = tuple(one.name for one in main if set(one.depends_on) <= started)
        if not ready:
            names = ", ".join(one.name for one in main)
            raise FormatError(_WAITS, f"{names} wait for each other")
        waves.append(ready)
        started.update(ready)
        main = [one for one in main if one.name not in started]
    return tuple(waves)
