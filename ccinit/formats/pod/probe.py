"""Probes of `pod.toml`: how PID 1 finds out whether a container does its work."""

from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.planes.ports import WORKLOAD_PORT
from ccinit.values import frozen

START_SECONDS = 600
"""The deadline of the phase START (`ccinit.init.sequence`), and so of each first yes."""


@frozen
class Probe:
    """How a container is asked; exactly one of `exec` and `tcp_port` is set.

    Attributes:
        exec: a program in the container, by its absolute path, and its arguments; exit code 0 is a
            yes.
        tcp_port: a port at 127.0.0.1, ::1 or the pod's own address; a connection is a yes, and
            nothing is read from it; 0 if `exec` is set.
        delay_seconds: from the program's start to the first question.
    """

    exec: tuple[str, ...]
    tcp_port: int
    delay_seconds: int
    period_seconds: int
    timeout_seconds: int


@frozen
class LivenessProbe:
    """A probe that goes on; `failures` in a row end the program."""

    probe: Probe
    failures: int


def read_liveness_probe(fields: Fields) -> LivenessProbe:
    """Read the table of a probe that ends a program.

    Raises:
        FormatError: the key that is wrong; `pod.container.probe`, not exactly one of the two, or
            a port where PID 1 itself would answer.
    """
    return LivenessProbe(probe=_read_probe(fields), failures=_read_failures(fields))


def read_ready_probe(fields: Fields) -> Probe:
    """Read the table of a probe that START waits for.

    Raises:
        FormatError: as `read_liveness_probe`; `pod.container.ready`, the first question would be
            too late.
    """
    probe = _read_probe(fields)
    _read_failures(fields)  # allowed, as Kubernetes has it there, too; the first yes is what counts
    if probe.delay_seconds >= START_SECONDS:
        raise FormatError(
            "pod.container.ready",
            f"delay_seconds is {probe.delay_seconds}, and START has {START_SECONDS} s for a yes",
        )
    return probe


def _read_failures(fields: Fields) -> int:
    return fields.integer("failures", low=1, high=100, default=3)


def _read_probe(fields: Fields) -> Probe:
    probe = Probe(
        exec=fields.texts("exec"),
        tcp_port=fields.integer("tcp_port", low=1, high=0xFFFF, default=0),
        delay_seconds=fields.integer("delay_seconds", low=0, high=3600, default=0),
        period_seconds=fields.integer("period_seconds", low=1, high=3600, default=10),
        timeout_seconds=fields.integer("timeout_seconds", low=1, high=300, default=5),
    )
    if bool(probe.exec) == bool(probe.tcp_port):
        raise FormatError("pod.container.probe", "expected exactly one of exec and tcp_port")
    if probe.tcp_port == WORKLOAD_PORT:
        raise FormatError("pod.container.probe", f"at {WORKLOAD_PORT} the workload API answers")
    if probe.exec and not probe.exec[0].startswith("/"):
        raise FormatError("pod.container.probe", "exec begins with an absolute path")
    return probe
