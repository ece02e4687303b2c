"""A Kubernetes document's fields, read strictly: a key that nobody asked for is refused.

A `FormatError` has the reason `kubernetes.<key>`. What the fields mean is
`guest_owner.kubernetes_pod`.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

import yaml

from ccinit.errors import FormatError

_NO_CLUSTER: Final = "nothing of a cluster is known in a guest"
_NO_PROBE: Final = "the guest reads nothing that containers write: exec or tcpSocket"
_ELSEWHERE: Final = {
    "configMap": "its texts are [[file]]s of pod.toml",
    "persistentVolumeClaim": "a [[volume]] of kind persistent in pod.toml",
    "hostPath": "no path of a host reaches a guest",
    "imagePullSecrets": "auth of an [[image]] in pod.toml",
    "serviceAccount": _NO_CLUSTER,
    "serviceAccountName": _NO_CLUSTER,
    "fieldRef": f"{_NO_CLUSTER}: write the value",
    "resourceFieldRef": f"{_NO_CLUSTER}: write the value",
    "configMapKeyRef": "write the value",
    "envFrom": "name each variable in env",
    "httpGet": _NO_PROBE,
    "grpc": _NO_PROBE,
    "startupProbe": "initialDelaySeconds of the two others",
    "fsGroup": "a volume is every user's in the pod",
}
"""What takes the place of a field that cannot be taken over."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that stands twice; YAML's readers disagree about which one counts."""

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - overridden
    ) -> dict[Hashable, Any]:
        if not all(isinstance(key, yaml.ScalarNode) for key, _ in node.value):
            raise FormatError("kubernetes.yaml", "a key is no text")
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) != len(keys):
            raise FormatError("kubernetes.duplicate", f"a key stands twice: {sorted(keys)}")
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> object:
    """Return what one YAML document says.

    Raises:
        FormatError: `kubernetes.yaml`, `kubernetes.duplicate`.
    """
    try:
        return yaml.load(text, _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: the 31st of June
        raise FormatError("kubernetes.yaml", f"not YAML: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    """Return what a reader of YAML says, and where, without the excerpt of the text."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (at line {error.problem_mark.line + 1})"
    return " ".join(str(error).split())


def read_table(
    value: object,
    where: str,
    allowed: set[str] | frozenset[str],
    *,
    left_out: set[str] | frozenset[str] = frozenset(),
) -> Mapping[str, Any]:
    """Return a mapping that has no other keys than these."""
    if not isinstance(value, dict):
        raise FormatError(f"kubernetes.{where}", "expected a mapping")
    unknown = sorted(str(key) for key in value.keys() - allowed - left_out)
    if unknown:
        named = ", ".join(_with_hint(key) for key in unknown)
        raise FormatError(f"kubernetes.{where}", f"cannot be taken over: {named}")
    return value


def _with_hint(key: str) -> str:
    return f"{key} ({_ELSEWHERE[key]})" if key in _ELSEWHERE else key


def read_tables(
    value: Mapping[str, Any],
    key: str,
    allowed: set[str] | frozenset[str],
    *,
    left_out: set[str] | frozenset[str] = frozenset(),
) -> Sequence[Mapping[str, Any]]:
    """Return a list of such mappings; absent means empty."""
    found = value.get(key, [])
    if not isinstance(found, list):
        raise FormatError(f"kubernetes.{key}", "expected a list")
    return [read_table(one, key, allowed, left_out=left_out) for one in found]


def read_text(value: Mapping[str, Any], key: str) -> str:
    """Return a text; a number or a truth value is none."""
    return _string(value.get(key), key)


def read_texts(value: Mapping[str, Any], key: str) -> Sequence[str]:
    """Return a list of texts; absent means empty."""
    found = value.get(key, [])
    if not isinstance(found, list):
        raise FormatError(f"kubernetes.{key}", "expected a list")
    return [_string(one, key) for one in found]


def _string(value: object, where: str) -> str:
    if not isinstance(value, str) or "\x7f" in value:
        raise FormatError(f"kubernetes.{where}", "expected text; numbers stand in quotes")
    return value


def read_number(value: Mapping[str, Any], key: str) -> int:
    """Return a whole number."""
    number = value.get(key)
    if type(number) is not int:
        raise FormatError(f"kubernetes.{key}", f"expected a number, found {number!r}")
    return number
