"""Converting a probe of a Kubernetes container into one of a pod.toml."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ccinit.errors import FormatError
from guest_owner.kubernetes.fields import read_number, read_table, read_tables, read_texts
from guest_owner.toml_text import quote

_TIMINGS: Final = {
    "initialDelaySeconds": "delay_seconds",
    "periodSeconds": "period_seconds",
    "timeoutSeconds": "timeout_seconds",
    "failureThreshold": "failures",
}


def convert_probe(one: Mapping[str, Any], place: str, table: str) -> Iterator[str]:
    """Yield a container's probe at `place` as its `table` of a pod.toml.

    Raises:
        FormatError: `kubernetes.…`, what cannot be taken over.
    """
    allowed = {"exec", "tcpSocket", *_TIMINGS}
    probe = read_table(one[place], place, allowed, left_out={"successThreshold"})
    if probe.get("successThreshold", 1) != 1:
        raise FormatError(f"kubernetes.{place}", "one success is enough here")
    yield f"[container.{table}]"
    if "exec" in probe:
        words = read_texts(read_table(probe["exec"], "exec", {"command"}), "command")
        if words and not words[0].startswith("/"):
            raise FormatError("kubernetes.exec", f"an absolute path in the image: {words[0]!r}")
        yield f"exec = {quote(words)}"
    if "tcpSocket" in probe:
        port = read_table(probe["tcpSocket"], "tcpSocket", {"port"})
        yield f"tcp_port = {read_number(_named_port(one, port), 'port')}"
    for name, key in _TIMINGS.items():
        if name in probe:
            yield f"{key} = {read_number(probe, name)}"
    if "timeoutSeconds" not in probe:
        yield "timeout_seconds = 1"


def _named_port(one: Mapping[str, Any], said: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a probe's port by its number, which the container's `ports` may have named."""
    if not isinstance(said.get("port"), str):
        return said
    named = {"name", "containerPort"}
    for port in read_tables(one, "ports", named, left_out={"protocol", "hostPort", "hostIP"}):
        if port.get("name") == said["port"]:
            return {"port": port.get("containerPort")}
    raise FormatError("kubernetes.port", f"ports names no {said['port']!r}")
