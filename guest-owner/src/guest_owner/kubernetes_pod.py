"""A pod.toml that does what a Kubernetes Pod asks for, as far as an immutable pod can.

Strict: a field that is not listed here is refused by its path, so that nothing that the Pod's
author relied on is lost without a word. Fields that only tell a cluster where to run the pod, and
who may reach it, are left out. A secret becomes a resource of the KBS, under the name
`kbs:///ccinit/<pod>/file-<secret>-<key>`.
"""

import json
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

from ccinit.errors import FormatError
from ccinit.formats.pod_capability import Capability
from ccinit.formats.sealed_secret import PREFIX

_LEFT_OUT: Final = frozenset(
    (
        *("affinity", "dnsPolicy", "enableServiceLinks", "nodeName", "nodeSelector"),
        *("priorityClassName", "runtimeClassName", "schedulerName", "tolerations"),
    )
)
_CONTAINER_LEFT_OUT: Final = frozenset(("imagePullPolicy", "ports"))
_RESTART: Final = {"Always": "always", "OnFailure": "on-failure", "Never": "never"}
_UNITS: Final = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "": 1}
_RHYTHM: Final = {
    "initialDelaySeconds": "delay_seconds",
    "periodSeconds": "period_seconds",
    "timeoutSeconds": "timeout_seconds",
    "failureThreshold": "failures",
}
_NO_SECCOMP: Final = {
    "RuntimeDefault": "a localhostProfile beside type RuntimeDefault",
    "Unconfined": "no container goes without a profile; name the calls it needs"
    " in [container.seccomp] allow",
    "Localhost": "the profile is a file of a node; say what it changes"
    " in [container.seccomp] allow and deny",
}
Lines = Iterator[str]


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


def convert_pod(text: str, ca_pem: str, scratch_bytes: int) -> str:
    """Return the text of a pod.toml.

    Args:
        text: YAML, one document.
        ca_pem: roots of every image's registry.
        scratch_bytes: size of the disk for images and what containers write; 0 is none.

    Raises:
        FormatError: `kubernetes.…`, what cannot be taken over.
    """
    try:
        document = yaml.load(text, _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: the 31st of June
        raise FormatError("kubernetes.yaml", str(error)) from error
    pod = _table(document, "pod", {"apiVersion", "kind", "metadata", "spec"}, left_out={"status"})
    if (pod.get("apiVersion"), pod.get("kind")) != ("v1", "Pod"):
        raise FormatError("kubernetes.kind", "expected apiVersion v1, kind Pod")
    allowed = {"name"}
    left_out = {"annotations", "labels", "namespace"}
    name = _text(_table(pod.get("metadata"), "metadata", allowed, left_out=left_out), "name")
    allowed = {
        *("containers", "initContainers", "restartPolicy", "securityContext", "volumes"),
        *("shareProcessNamespace", "terminationGracePeriodSeconds"),
    }
    spec = _table(pod.get("spec"), "spec", allowed, left_out=_LEFT_OUT)
    context = _table(spec.get("securityContext", {}), "securityContext", {"seccompProfile"})
    _check_seccomp(context)
    return "\n".join((*_Pod(name, spec, ca_pem, scratch_bytes).lines(), ""))


class _Pod:
    """One conversion."""

    def __init__(self, name: str, spec: Mapping[str, Any], ca_pem: str, scratch_bytes: int) -> None:
        self._name = name
        self._spec = spec
        self._ca_pem = ca_pem
        self._scratch_bytes = scratch_bytes
        self._volumes = {
            _text(one, "name"): one
            for one in _tables(spec, "volumes", {"name", "emptyDir", "secret"})
        }
        for volume, one in self._volumes.items():
            if len(one.keys() & {"emptyDir", "secret"}) != 1:
                raise FormatError("kubernetes.volumes", f"{volume}: say emptyDir or secret")

    def lines(self) -> Lines:
        policy = _text({"restartPolicy": "Always", **self._spec}, "restartPolicy")
        if policy not in _RESTART:
            raise FormatError("kubernetes.restartPolicy", f"unknown: {policy!r}")
        yield from ("version = 1", f"name = {_quote(self._name)}")
        yield from self._share()
        again = "never" if policy == "Never" else "on-failure"
        for place, kind, restart in (
            ("initContainers", "init", again),
            ("containers", "main", _RESTART[policy]),
        ):
            for one in self._of(place):
                yield from self._container(one, kind, restart)
        for volume in self._volumes.values():
            yield from _empty_directory(volume)
        if self._scratch_bytes:
            yield from ("", "[[volume]]", 'name = "ccinit-scratch"', 'kind = "scratch"')
            yield f"size_bytes = {self._scratch_bytes}"

    def _share(self) -> Lines:
        """Share IPC as every Pod does, if there is somebody to share it with, and what it asks."""
        several = sum(1 for place in ("initContainers", "containers") for _ in self._of(place)) > 1
        process = _boolean(self._spec.get("shareProcessNamespace", False))
        if several or process == "true":
            yield from ("", "[share]", f"process = {process}")
        if several:
            yield "ipc = true  # as in every Pod of Kubernetes; false if no container needs it"

    def _of(self, place: str) -> Sequence[Mapping[str, Any]]:
        return _tables(self._spec, place, _CONTAINER_FIELDS, left_out=_CONTAINER_LEFT_OUT)

    def _container(self, one: Mapping[str, Any], kind: str, restart: str) -> Lines:
        name = _text(one, "name")
        yield from ("", "[[image]]", f"name = {_quote(name)}")
        yield f"reference = {_quote(_text(one, 'image'))}"
        yield f"ca = '''\n{self._ca_pem.rstrip()}\n'''"
        yield from ("", "[[container]]", f"name = {_quote(name)}", f"image = {_quote(name)}")
        yield from (f"kind = {_quote(kind)}", f"restart = {_quote(restart)}")
        if "terminationGracePeriodSeconds" in self._spec:
            seconds = _number(self._spec, "terminationGracePeriodSeconds")
            yield f"stop_grace_seconds = {seconds}"
        variables = _tables(one, "env", {"name", "value", "valueFrom"})
        names = {_text(each, "name") for each in variables}
        yield from _program(one, names)
        yield from _rights(one)
        texts = [
            (_text(each, "name"), _unexpanded(_text(each, "value"), "env", names))
            for each in variables
            if "value" in each
        ]
        plain = [(key, value) for key, value in texts if not value.startswith(PREFIX)]
        if plain:
            yield f"env = {{ {', '.join(f'{_quote(k)} = {_quote(v)}' for k, v in plain)} }}"
        yield from _limits(one)
        for place, table in (("readinessProbe", "ready"), ("livenessProbe", "alive")):
            if place in one:
                yield from _probe(one[place], place, table)
        secrets: list[str] = []
        for mount in _tables(one, "volumeMounts", {"name", "mountPath", "readOnly"}):
            secrets += self._mount_secret(name, mount)
            yield from self._mount(mount)
        for variable, value in texts:
            if value.startswith(PREFIX):
                secrets += self._resource(name, value)
                secrets.append(f"env = {_quote(variable)}")
        for each in variables:
            if "value" not in each:
                source = _table(each.get("valueFrom"), "valueFrom", {"secretKeyRef"})
                key = _table(source.get("secretKeyRef"), "secretKeyRef", {"name", "key"})
                secrets += self._secret(name, _text(key, "name"), _text(key, "key"))
                secrets.append(f"env = {_quote(_text(each, 'name'))}")
        yield from secrets

    def _mount(self, mount: Mapping[str, Any]) -> Lines:
        if "emptyDir" in self._volume(mount):
            yield from ("", "[[container.mount]]", f"volume = {_quote(_text(mount, 'name'))}")
            yield f"path = {_quote(_text(mount, 'mountPath'))}"
            yield f"read_only = {_boolean(mount.get('readOnly', False))}"

    def _mount_secret(self, container: str, mount: Mapping[str, Any]) -> Lines:
        volume = self._volume(mount)
        if "secret" not in volume:
            return
        secret = _table(volume["secret"], "secret", {"secretName", "items"})
        items = _tables(secret, "items", {"key", "path"})
        if not items:
            raise FormatError("kubernetes.secret", "name its keys as items: a KBS lists nothing")
        for item in items:
            yield from self._secret(container, _text(secret, "secretName"), _text(item, "key"))
            yield f"file = {_quote(_text(mount, 'mountPath') + '/' + _text(item, 'path'))}"

    def _secret(self, container: str, secret: str, key: str) -> Lines:
        return self._resource(container, f"kbs:///ccinit/{self._name}/file-{secret}-{key}")

    def _resource(self, container: str, uri: str) -> Lines:
        yield from ("", "[[secret]]", f"container = {_quote(container)}", f"uri = {_quote(uri)}")

    def _volume(self, mount: Mapping[str, Any]) -> Mapping[str, Any]:
        name = _text(mount, "name")
        if name not in self._volumes:
            raise FormatError("kubernetes.volumeMounts", f"no volume {name!r}")
        return self._volumes[name]


_CONTAINER_FIELDS: Final = frozenset(
    (
        *("name", "image", "command", "args", "env", "workingDir", "securityContext"),
        *("resources", "volumeMounts", "readinessProbe", "livenessProbe"),
    )
)


def _program(one: Mapping[str, Any], variables: Collection[str]) -> Lines:
    command, args = _strings(one, "command"), _strings(one, "args")
    if args and not command:
        raise FormatError("kubernetes.args", "args need a command: the image's is not known here")
    if command:
        words = [_unexpanded(word, "args", variables) for word in (*command, *args)]
        yield f"args = {json.dumps(words, ensure_ascii=False)}"
    if "workingDir" in one:
        yield f"cwd = {_quote(_text(one, 'workingDir'))}"


def _unexpanded(text: str, where: str, variables: Collection[str]) -> str:
    """Return a text that a cluster would leave as it is: nobody expands it here."""
    if "$$" in text or any(f"$({name})" in text for name in variables):
        raise FormatError(f"kubernetes.{where}", f"nothing is expanded here: {text[:80]!r}")
    return text


def _rights(one: Mapping[str, Any]) -> Lines:
    allowed = {
        *("runAsUser", "runAsGroup", "readOnlyRootFilesystem", "allowPrivilegeEscalation"),
        *("capabilities", "seccompProfile"),
    }
    context = _table(one.get("securityContext", {}), "securityContext", allowed)
    if context.get("allowPrivilegeEscalation", False) is not False:
        raise FormatError("kubernetes.allowPrivilegeEscalation", "no container may")
    _check_seccomp(context)
    if "runAsUser" in context:
        ids = [context["runAsUser"], context.get("runAsGroup", context["runAsUser"])]
        if not all(type(number) is int for number in ids):
            raise FormatError("kubernetes.runAsUser", "expected numbers")
        yield f'user = "{ids[0]}:{ids[1]}"'
    yield f"read_only = {_boolean(context.get('readOnlyRootFilesystem', False))}"
    # what a cluster's runtime gives unasked is not given here, so `drop` has nothing to take away
    wanted = _table(context.get("capabilities", {}), "capabilities", {"add"}, left_out={"drop"})
    names = _strings(wanted, "add")
    unknown = sorted(set(names) - set(Capability))
    if unknown:
        raise FormatError("kubernetes.capabilities", f"no container may have {unknown[0]}")
    if names:
        yield f"capabilities = {json.dumps(names)}"


def _check_seccomp(context: Mapping[str, Any]) -> None:
    """Let the default stand for the default; the others cannot be said as changes to it."""
    if "seccompProfile" not in context:
        return
    profile = _table(context["seccompProfile"], "seccompProfile", {"type", "localhostProfile"})
    kind = _text(profile, "type")
    why = _NO_SECCOMP.get(kind, f"unknown type {kind!r}")
    if kind != "RuntimeDefault" or "localhostProfile" in profile:
        raise FormatError("kubernetes.seccompProfile", why)


def _probe(value: object, place: str, table: str) -> Lines:
    allowed = {"exec", "tcpSocket", *_RHYTHM}
    probe = _table(value, place, allowed, left_out={"successThreshold"})
    if probe.get("successThreshold", 1) != 1:
        raise FormatError(f"kubernetes.{place}", "one success is enough here")
    yield f"[container.{table}]"
    if "exec" in probe:
        words = _strings(_table(probe["exec"], "exec", {"command"}), "command")
        yield f"exec = {json.dumps(words)}"
    if "tcpSocket" in probe:
        yield f"tcp_port = {_number(_table(probe['tcpSocket'], 'tcpSocket', {'port'}), 'port')}"
    for name, key in _RHYTHM.items():
        if name in probe:
            yield f"{key} = {_number(probe, name)}"
    if "timeoutSeconds" not in probe:
        yield "timeout_seconds = 1"


def _limits(one: Mapping[str, Any]) -> Lines:
    resources = _table(one.get("resources", {}), "resources", {"limits"}, left_out={"requests"})
    limits = _table(resources.get("limits", {}), "limits", {"memory", "cpu"})
    if limits:
        yield "[container.resources]"
    if "memory" in limits:
        yield f"memory_bytes = {_bytes(limits['memory'])}"
    if "cpu" in limits:
        yield f"cpu_milli = {_milli(limits['cpu'])}"


def _empty_directory(volume: Mapping[str, Any]) -> Lines:
    if "emptyDir" not in volume:
        return
    wanted = _table(volume["emptyDir"], "emptyDir", {"medium", "sizeLimit"})
    if "sizeLimit" not in wanted:
        raise FormatError("kubernetes.emptyDir", f"{volume['name']} needs a sizeLimit")
    medium = _text({"medium": "", **wanted}, "medium")
    kind = {"Memory": "tmpfs", "": "scratch"}.get(medium)
    if kind is None:
        raise FormatError("kubernetes.emptyDir", f"unknown medium {medium!r}")
    yield from ("", "[[volume]]", f"name = {_quote(_text(volume, 'name'))}")
    yield from (f"kind = {_quote(kind)}", f"size_bytes = {_bytes(wanted['sizeLimit'])}")


def _table(
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
        raise FormatError(f"kubernetes.{where}", f"cannot be taken over: {', '.join(unknown)}")
    return value


def _tables(
    value: Mapping[str, Any],
    key: str,
    allowed: set[str] | frozenset[str],
    *,
    left_out: set[str] | frozenset[str] = frozenset(),
) -> Sequence[Mapping[str, Any]]:
    found = value.get(key, [])
    if not isinstance(found, list):
        raise FormatError(f"kubernetes.{key}", "expected a list")
    return [_table(one, key, allowed, left_out=left_out) for one in found]


def _text(value: Mapping[str, Any], key: str) -> str:
    return _string(value.get(key), key)


def _strings(value: Mapping[str, Any], key: str) -> Sequence[str]:
    found = value.get(key, [])
    if not isinstance(found, list):
        raise FormatError(f"kubernetes.{key}", "expected a list")
    return [_string(one, key) for one in found]


def _string(value: object, where: str) -> str:
    if not isinstance(value, str) or "\x7f" in value:
        raise FormatError(f"kubernetes.{where}", "expected text; numbers stand in quotes")
    return value


def _number(value: Mapping[str, Any], key: str) -> int:
    number = value.get(key)
    if type(number) is not int:
        raise FormatError(f"kubernetes.{key}", f"expected a number, found {number!r}")
    return number


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # its escapes are TOML's


def _boolean(value: object) -> str:
    if not isinstance(value, bool):
        raise FormatError("kubernetes.boolean", f"expected true or false, found {value!r}")
    return str(value).lower()


def _bytes(value: object) -> int:
    number, unit = str(value), ""
    if number[-2:] in _UNITS:
        number, unit = number[:-2], number[-2:]
    if not number.isascii() or not number.isdigit():
        raise FormatError("kubernetes.quantity", f"expected bytes, Ki, Mi or Gi: {value!r}")
    return int(number) * _UNITS[unit]


def _milli(value: object) -> int:
    text = str(value)
    number, factor = (text[:-1], 1) if text.endswith("m") else (text, 1000)
    if not number.isascii() or not number.isdigit():
        raise FormatError("kubernetes.quantity", f"expected whole or milli processors: {value!r}")
    return int(number) * factor
