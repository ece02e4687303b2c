"""A Kubernetes document's fields, read strictly: a key that nobody asked for is refused.

A `FormatError` has the reason `kubernetes.<key>`. What the fields mean is
`guest_owner.kubernetes.pod`; how the text is read, `guest_owner.kubernetes.yaml_text`.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any, Final

from ccinit.errors import FormatError
from guest_owner.terminal_text import printable

_NO_CLUSTER: Final = "nothing of a cluster is known in a guest"
_NO_ACCOUNT: Final = f"{_NO_CLUSTER}: leave it out, and no token is mounted"
_NO_PROBE: Final = "the guest reads nothing that containers write: exec or tcpSocket"
_OWN_NAMESPACE: Final = "a pod is alone in its machine: leave it out"
_OWN_FILES: Final = "the guest makes /etc/hosts and /etc/resolv.conf: leave it out"
_GROUP: Final = "every user may write to a volume's top: leave it out"
_MOUNTED_WHOLE: Final = "a volume is mounted whole; a secret's items say each file's path"
_NO_LABEL: Final = "no policy of such a module is in a guest: leave it out"
_TERMINAL: Final = "`guest-owner exec -it` gives one later: leave it out"
_ELSEWHERE: Final = {
    "configMap": "its texts are [[file]]s of pod.toml",
    "projected": "each of its sources by itself, a secret as a volume of its own",
    "downwardAPI": "its texts are [[file]]s of pod.toml",
    "persistentVolumeClaim": "a [[volume]] of kind persistent in pod.toml",
    "ephemeral": "an emptyDir with a sizeLimit",
    "csi": "a [[volume]] of kind persistent or verity in pod.toml",
    "hostPath": "no path of a host reaches a guest",
    "imagePullSecrets": "auth of an [[image]] in pod.toml",
    "serviceAccount": _NO_ACCOUNT,
    "serviceAccountName": _NO_ACCOUNT,
    "fieldRef": f"{_NO_CLUSTER}: write the value",
    "resourceFieldRef": f"{_NO_CLUSTER}: write the value",
    "configMapKeyRef": "write the value",
    "envFrom": "name each variable in env",
    "httpGet": _NO_PROBE,
    "grpc": _NO_PROBE,
    "startupProbe": "initialDelaySeconds of the two others",
    "lifecycle": "the program itself, on its stop signal, within terminationGracePeriodSeconds",
    "activeDeadlineSeconds": "the program itself has to end",
    "hostname": "it is the pod's name: leave it out",
    "subdomain": f"{_NO_CLUSTER}: leave it out",
    "hostAliases": _OWN_FILES,
    "dnsConfig": _OWN_FILES,
    "hostNetwork": _OWN_NAMESPACE,
    "hostPID": _OWN_NAMESPACE,
    "hostIPC": _OWN_NAMESPACE,
    "ephemeralContainers": "`guest-owner exec`, or `debug open` with tools of your own",
    "restartPolicy": "a sidecar is one of containers, and depends_on in pod.toml orders them",
    "privileged": "capabilities.add, one by one",
    "fsGroup": _GROUP,
    "fsGroupChangePolicy": _GROUP,
    "supplementalGroups": "say one, as runAsGroup",
    "procMount": "it is the default: leave it out",
    "seLinuxOptions": _NO_LABEL,
    "appArmorProfile": _NO_LABEL,
    "sysctls": "they are the guest's: leave it out",
    "subPath": _MOUNTED_WHOLE,
    "subPathExpr": _MOUNTED_WHOLE,
    "generateName": "a pod's name is one: write metadata.name",
    "ephemeral-storage": "size_bytes of the scratch [[volume]], or an emptyDir's sizeLimit",
    "stdin": _TERMINAL,
    "tty": _TERMINAL,
    "terminationGracePeriodSeconds": "the Pod's own is what counts",
    "optional": "what a pod names has to be there: leave it out",
}
"""What to use instead of a field that cannot be taken over."""


def read_table(
    value: object,
    where: str,
    allowed: AbstractSet[str],
    *,
    left_out: AbstractSet[str] = frozenset(),
    refused: AbstractSet[str] = frozenset(),
) -> Mapping[str, Any]:
    """Return a mapping with no keys but these, in which any key in `refused` must be false."""
    if not isinstance(value, dict):
        raise FormatError(f"kubernetes.{where}", "expected a mapping")
    is_off = {key for key in refused if value.get(key) is False}
    unknown = sorted(str(key) for key in value.keys() - allowed - left_out - is_off)
    if unknown:
        named = ", ".join(_with_hint(key) for key in unknown)
        raise FormatError(f"kubernetes.{where}", f"cannot be taken over: {named}")
    return value


def _with_hint(key: str) -> str:
    return f"{key} ({_ELSEWHERE[key]})" if key in _ELSEWHERE else key


def read_tables(
    value: Mapping[str, Any],
    key: str,
    allowed: AbstractSet[str],
    *,
    left_out: AbstractSet[str] = frozenset(),
    refused: AbstractSet[str] = frozenset(),
) -> Sequence[Mapping[str, Any]]:
    """Return a list of such mappings, empty if absent; one error tells of all entries."""
    found = value.get(key, [])
    if not isinstance(found, list):
        raise FormatError(f"kubernetes.{key}", "expected a list")
    entries, told = [], []
    for one in found:
        try:
            entries.append(_read_entry(one, key, allowed, left_out, refused))
        except FormatError as error:
            told.append(error.detail)
    if told:
        raise FormatError(f"kubernetes.{key}", "; ".join(told))
    return entries


def _read_entry(
    one: object,
    key: str,
    allowed: AbstractSet[str],
    left_out: AbstractSet[str],
    refused: AbstractSet[str],
) -> Mapping[str, Any]:
    with naming_entry(one):
        return read_table(one, key, allowed, left_out=left_out, refused=refused)


@contextmanager
def naming_entry(one: object) -> Iterator[None]:
    """Add the name of the container, volume or variable, if it has one, to an error."""
    try:
        yield
    except FormatError as error:
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str):
            raise
        raise FormatError(error.reason, f"{printable(name)}: {error.detail}") from error


def read_text(value: Mapping[str, Any], key: str) -> str:
    """Return a text; a number or a truth value is none."""
    return _string(value.get(key), key)


def read_texts(value: Mapping[str, Any], key: str) -> Sequence[str]:
    """Return a list of texts; absent means empty."""
    found = value.get(key, [])
    if not isinstance(found, list):
        raise FormatError(f"kubernetes.{key}", "expected a list")
    return [_string(one, key) for one in found]


def read_flag(value: Mapping[str, Any], key: str) -> bool:
    """Return a truth value; absent means false."""
    found = value.get(key, False)
    if not isinstance(found, bool):
        raise FormatError(f"kubernetes.{key}", f"expected true or false, found {found!r}")
    return found


def _string(value: object, where: str) -> str:
    if not isinstance(value, str) or "\x7f" in value:
        raise FormatError(f"kubernetes.{where}", "expected text; numbers stand in quotes")
    if any("\ud800" <= character <= "\udfff" for character in value):  # an escape can say it
        raise FormatError(f"kubernetes.{where}", "not Unicode: half of a surrogate pair")
    return value


def read_number(value: Mapping[str, Any], key: str) -> int:
    """Return a whole number."""
    number = value.get(key)
    if type(number) is not int:
        raise FormatError(f"kubernetes.{key}", f"expected a number, found {number!r:.80}")
    return number
