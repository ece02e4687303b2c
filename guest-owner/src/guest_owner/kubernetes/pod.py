"""A pod.toml that does what a Kubernetes Pod asks for, as far as an immutable pod can.

Strict: a field that is not listed here is refused, by its path, so that nothing the Pod's author
relied on is silently lost. Fields that only tell a cluster where to run the pod, and who may reach
it, are left out. A secret becomes a resource of the KBS named
`kbs:///ccinit/<pod>/file-<secret>-<key>`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from ccinit.errors import FormatError
from ccinit.formats.kbs.sealed_secret import PREFIX
from ccinit.formats.pod.capability import Capability
from ccinit.formats.pod.scratch_tags import RAM_DEVICES
from guest_owner.kubernetes.fields import (
    naming_entry,
    read_flag,
    read_number,
    read_table,
    read_tables,
    read_text,
    read_texts,
)
from guest_owner.kubernetes.probe import convert_probe
from guest_owner.kubernetes.quantity import parse_memory, parse_processors, parse_volume_size
from guest_owner.kubernetes.yaml_text import load_yaml
from guest_owner.toml_text import quote

_LEFT_OUT: Final = frozenset(
    (
        *("affinity", "dnsPolicy", "enableServiceLinks", "nodeName", "nodeSelector"),
        *("preemptionPolicy", "priority", "priorityClassName", "readinessGates"),
        *("runtimeClassName", "schedulerName", "tolerations", "topologySpreadConstraints"),
    )
)
_OFF: Final = frozenset(("hostIPC", "hostNetwork", "hostPID"))
"""Off in every guest, so a Pod may say `false`; likewise what is `refused` below."""
_BOOKKEEPING: Final = frozenset(
    (
        *("annotations", "creationTimestamp", "finalizers", "generation", "labels"),
        *("managedFields", "namespace", "ownerReferences", "resourceVersion", "uid"),
    )
)
_POD_USER: Final = ("runAsUser", "runAsGroup", "runAsNonRoot")
"""Settings of a Pod for those of its containers that do not have them."""
_MAX_ID: Final = (1 << 31) - 1  # Kubernetes' limit; a guest accepts twice as many
_CONTAINER_FIELDS: Final = frozenset(
    (
        *("name", "image", "command", "args", "env", "workingDir", "securityContext"),
        *("resources", "volumeMounts", "readinessProbe", "livenessProbe"),
    )
)
_CONTAINER_LEFT_OUT: Final = frozenset(
    ("imagePullPolicy", "ports", "terminationMessagePath", "terminationMessagePolicy")
)
_CONTAINER_OFF: Final = frozenset(("stdin", "stdinOnce", "tty"))
_MAX_MODE: Final = 0o777
_RESTART: Final = {"Always": "always", "OnFailure": "on-failure", "Never": "never"}
_SCRATCH_KIND: Final = 'kind = "scratch"'
_NO_SECCOMP: Final = {
    "RuntimeDefault": "a localhostProfile beside type RuntimeDefault",
    "Unconfined": "no container goes without a profile; name the calls it needs"
    " in [container.seccomp] allow",
    "Localhost": "the profile is a file of a node; say what it changes"
    " in [container.seccomp] allow and deny",
}
Lines = Iterator[str]
_Variables = Mapping[str, str | Mapping[str, Any]]
"""A container's variables by name: their text, or the source of it."""


def convert_pod(text: str, ca_pem: str, scratch_bytes: int) -> str:
    """Return the text of a pod.toml.

    Args:
        text: YAML, one document.
        ca_pem: roots of every image's registry.
        scratch_bytes: size of the disk for images and what containers write; 0 is none.

    Raises:
        FormatError: `kubernetes.…`, what cannot be taken over.
    """
    document = load_yaml(text)
    if isinstance(document, dict) and (
        (document.get("apiVersion"), document.get("kind")) != ("v1", "Pod")
    ):
        detail = (
            "expected apiVersion v1, kind Pod; of a Deployment, Job or the like write its"
            " spec.template as one, with a metadata.name"
        )
        raise FormatError("kubernetes.kind", detail)
    pod = read_table(
        document, "pod", {"apiVersion", "kind", "metadata", "spec"}, left_out={"status"}
    )
    allowed = {"name"}
    metadata = read_table(pod.get("metadata"), "metadata", allowed, left_out=_BOOKKEEPING)
    name = read_text(metadata, "name")
    allowed = {
        *("containers", "initContainers", "restartPolicy", "securityContext", "volumes"),
        *("shareProcessNamespace", "terminationGracePeriodSeconds", "automountServiceAccountToken"),
    }
    spec = read_table(pod.get("spec"), "spec", allowed, left_out=_LEFT_OUT, refused=_OFF)
    if spec.get("automountServiceAccountToken", False) is not False:
        raise FormatError("kubernetes.automountServiceAccountToken", "there is no such token here")
    allowed = {"seccompProfile", *_POD_USER}
    context = read_table(spec.get("securityContext", {}), "securityContext", allowed)
    _check_seccomp(context)
    return "\n".join((*_Pod(name, spec, ca_pem, scratch_bytes).lines(), ""))


class _Pod:
    """One conversion."""

    def __init__(self, name: str, spec: Mapping[str, Any], ca_pem: str, scratch_bytes: int) -> None:
        self._name = name
        self._spec = spec
        self._ca_pem = ca_pem
        self._scratch_bytes = scratch_bytes
        self._images: dict[str, str] = {}  # by reference: the name of the first container with it
        self._volumes = {
            read_text(one, "name"): one
            for one in read_tables(spec, "volumes", {"name", "emptyDir", "secret"})
        }
        for volume, one in self._volumes.items():
            if len(one.keys() & {"emptyDir", "secret"}) != 1:
                raise FormatError("kubernetes.volumes", f"{volume}: say emptyDir or secret")

    def lines(self) -> Lines:
        policy = read_text({"restartPolicy": "Always", **self._spec}, "restartPolicy")
        if policy not in _RESTART:
            raise FormatError("kubernetes.restartPolicy", f"unknown: {policy!r}")
        yield from ("version = 1", f"name = {quote(self._name)}")
        yield from self._share()
        again = "never" if policy == "Never" else "on-failure"
        for place, kind, restart in (
            ("initContainers", "init", again),
            ("containers", "main", _RESTART[policy]),
        ):
            for one in self._of(place):
                with naming_entry(one):
                    yield from self._container(one, kind, restart)
        disks = [line for one in self._volumes.values() for line in _empty_directory(one)]
        yield from disks
        _check_disks(disks.count(_SCRATCH_KIND) + bool(self._scratch_bytes))
        if self._scratch_bytes:
            yield from ("", "[[volume]]", 'name = "ccinit-scratch"', _SCRATCH_KIND)
            yield f"size_bytes = {self._scratch_bytes}"

    def _share(self) -> Lines:
        """Share IPC between several containers, as every Pod does, and what the Pod asks for."""
        several = sum(1 for place in ("initContainers", "containers") for _ in self._of(place)) > 1
        process = read_flag(self._spec, "shareProcessNamespace")
        if several or process:
            yield from ("", "[share]", f"process = {str(process).lower()}")
        if several:
            yield "ipc = true  # as in every Pod of Kubernetes; false if no container needs it"

    def _of(self, place: str) -> Sequence[Mapping[str, Any]]:
        return read_tables(
            self._spec,
            place,
            _CONTAINER_FIELDS,
            left_out=_CONTAINER_LEFT_OUT,
            refused=_CONTAINER_OFF,
        )

    def _container(self, one: Mapping[str, Any], kind: str, restart: str) -> Lines:
        # In TOML's order: a container's own values, its tables, and what only names it.
        name = read_text(one, "name")
        variables = _variables(one)
        image = self._images.setdefault(read_text(one, "image"), name)
        if image == name:
            yield from self._image(one, name)
        yield from ("", "[[container]]", f"name = {quote(name)}", f"image = {quote(image)}")
        yield from (f"kind = {quote(kind)}", f"restart = {quote(restart)}")
        if "terminationGracePeriodSeconds" in self._spec:
            seconds = read_number(self._spec, "terminationGracePeriodSeconds")
            yield f"stop_grace_seconds = {seconds}"
        yield from _program(one, variables.keys())
        yield from _rights(one, self._spec.get("securityContext", {}))
        yield from _plain_environment(variables)
        yield from _limits(one)
        for place, table in (("readinessProbe", "ready"), ("livenessProbe", "alive")):
            if place in one:
                yield from convert_probe(one, place, table)
        mounts = read_tables(one, "volumeMounts", {"name", "mountPath", "readOnly"})
        for mount in mounts:
            yield from self._mount(mount)
        for mount in mounts:
            yield from self._mount_secret(name, mount)
        yield from self._secret_environment(name, variables)

    def _image(self, one: Mapping[str, Any], name: str) -> Lines:
        yield from ("", "[[image]]", f"name = {quote(name)}")
        yield f"reference = {quote(read_text(one, 'image'))}"
        yield f"ca = '''\n{self._ca_pem.rstrip()}\n'''"

    def _secret_environment(self, container: str, variables: _Variables) -> Lines:
        for variable, said in variables.items():
            if isinstance(said, str):
                if not said.startswith(PREFIX):
                    continue
                yield from self._resource(container, said)
            else:
                key = read_table(
                    said.get("secretKeyRef"), "secretKeyRef", {"name", "key"}, refused={"optional"}
                )
                yield from self._secret(container, read_text(key, "name"), read_text(key, "key"))
            yield f"env = {quote(variable)}"

    def _mount(self, mount: Mapping[str, Any]) -> Lines:
        if "emptyDir" in self._volume(mount):
            yield from ("", "[[container.mount]]", f"volume = {quote(read_text(mount, 'name'))}")
            yield f"path = {quote(read_text(mount, 'mountPath'))}"
            yield f"read_only = {str(read_flag(mount, 'readOnly')).lower()}"

    def _mount_secret(self, container: str, mount: Mapping[str, Any]) -> Lines:
        volume = self._volume(mount)
        if "secret" not in volume:
            return
        allowed = {"secretName", "items", "defaultMode"}
        secret = read_table(volume["secret"], "secret", allowed, refused={"optional"})
        items = read_tables(secret, "items", {"key", "path", "mode"})
        if not items:
            raise FormatError("kubernetes.secret", "name its keys as items: a KBS lists nothing")
        for item in items:
            yield from self._secret(
                container, read_text(secret, "secretName"), read_text(item, "key")
            )
            yield f"file = {quote(read_text(mount, 'mountPath') + '/' + read_text(item, 'path'))}"
            yield from _mode({"mode": secret.get("defaultMode"), **item})

    def _secret(self, container: str, secret: str, key: str) -> Lines:
        return self._resource(container, f"kbs:///ccinit/{self._name}/file-{secret}-{key}")

    def _resource(self, container: str, uri: str) -> Lines:
        yield from ("", "[[secret]]", f"container = {quote(container)}", f"uri = {quote(uri)}")

    def _volume(self, mount: Mapping[str, Any]) -> Mapping[str, Any]:
        name = read_text(mount, "name")
        if name not in self._volumes:
            raise FormatError("kubernetes.volumeMounts", f"no volume {name!r}")
        return self._volumes[name]


def _variables(one: Mapping[str, Any]) -> _Variables:
    tables = read_tables(one, "env", {"name", "value", "valueFrom"})
    names = [read_text(each, "name") for each in tables]
    if len(set(names)) != len(names):
        raise FormatError("kubernetes.env", f"a variable appears twice: {sorted(names)}")
    return {name: _variable(each, names) for name, each in zip(names, tables, strict=True)}


def _variable(each: Mapping[str, Any], names: Sequence[str]) -> str | Mapping[str, Any]:
    with naming_entry(each):
        if "valueFrom" in each:
            if each.get("value"):
                raise FormatError("kubernetes.env", "both value and valueFrom: write one")
            return read_table(each["valueFrom"], "valueFrom", {"secretKeyRef"})
        return _unexpanded(read_text({"value": "", **each}, "value"), "env", names)


def _plain_environment(variables: _Variables) -> Lines:
    plain = [
        f"{quote(name)} = {quote(said)}"
        for name, said in variables.items()
        if isinstance(said, str) and not said.startswith(PREFIX)
    ]
    if plain:
        yield f"env = {{ {', '.join(plain)} }}"


def _program(one: Mapping[str, Any], variables: Collection[str]) -> Lines:
    command, args = read_texts(one, "command"), read_texts(one, "args")
    if args and not command:
        raise FormatError("kubernetes.args", "args need a command: the image's is not known here")
    if command:
        words = [_unexpanded(word, "args", variables) for word in (*command, *args)]
        yield f"args = {quote(words)}"
    if "workingDir" in one:
        yield f"cwd = {quote(read_text(one, 'workingDir'))}"


def _unexpanded(text: str, where: str, variables: Collection[str]) -> str:
    """Return a text that a cluster would leave unchanged: guests expand no variables."""
    if "$$" in text or any(f"$({name})" in text for name in variables):
        raise FormatError(
            f"kubernetes.{where}", f"nothing is expanded here, write what it means: {text[:80]!r}"
        )
    return text


def _rights(one: Mapping[str, Any], of_pod: Mapping[str, Any]) -> Lines:
    allowed = {
        *_POD_USER,
        *("readOnlyRootFilesystem", "allowPrivilegeEscalation", "capabilities", "seccompProfile"),
    }
    own = read_table(
        one.get("securityContext", {}), "securityContext", allowed, refused={"privileged"}
    )
    context = {key: of_pod[key] for key in _POD_USER if key in of_pod} | dict(own)
    if context.get("allowPrivilegeEscalation", False) is not False:
        raise FormatError("kubernetes.allowPrivilegeEscalation", "no container may")
    _check_seccomp(context)
    _check_not_root(context)
    if "runAsUser" in context:
        # without a group it is the image's for that user, or 0: in a cluster as in a guest
        ids = [context[key] for key in ("runAsUser", "runAsGroup") if key in context]
        if not all(type(number) is int and 0 <= number <= _MAX_ID for number in ids):
            raise FormatError("kubernetes.runAsUser", f"expected numbers, 0 to {_MAX_ID}")
        yield f'user = "{":".join(map(str, ids))}"'
    elif "runAsGroup" in context:
        raise FormatError("kubernetes.runAsGroup", "a group needs a runAsUser here")
    yield f"read_only = {str(read_flag(context, 'readOnlyRootFilesystem')).lower()}"
    # what a cluster's runtime gives unasked is not given here, so `drop` has nothing to take away
    wanted = read_table(context.get("capabilities", {}), "capabilities", {"add"}, left_out={"drop"})
    names = read_texts(wanted, "add")
    unknown = sorted(set(names) - set(Capability))
    if unknown:
        raise FormatError("kubernetes.capabilities", f"no container may have {unknown[0]}")
    if names:
        yield f"capabilities = {quote(names)}"


def _check_not_root(context: Mapping[str, Any]) -> None:
    """Demand a numeric user where root is forbidden: a guest does not check an image's own user.

    Raises:
        FormatError: `kubernetes.runAsNonRoot`.
    """
    if read_flag(context, "runAsNonRoot") and not context.get("runAsUser"):
        raise FormatError("kubernetes.runAsNonRoot", "say a runAsUser other than 0, as a number")


def _check_seccomp(context: Mapping[str, Any]) -> None:
    """Accept the type `RuntimeDefault`; other profiles cannot be written as changes to it."""
    if "seccompProfile" not in context:
        return
    profile = read_table(context["seccompProfile"], "seccompProfile", {"type", "localhostProfile"})
    kind = read_text(profile, "type")
    why = _NO_SECCOMP.get(kind, f"unknown type {kind!r}")
    if kind != "RuntimeDefault" or "localhostProfile" in profile:
        raise FormatError("kubernetes.seccompProfile", why)


def _mode(item: Mapping[str, Any]) -> Lines:
    """Yield a file's mode if the Pod has one; the guest's default lets only the owner read it."""
    if item["mode"] is None:
        return
    mode = read_number(item, "mode")
    if not 0 <= mode <= _MAX_MODE:
        raise FormatError("kubernetes.mode", "0 to 0777")
    yield f"mode = 0o{mode:o}"


def _limits(one: Mapping[str, Any]) -> Lines:
    resources = read_table(one.get("resources", {}), "resources", {"limits"}, left_out={"requests"})
    limits = read_table(resources.get("limits", {}), "limits", {"memory", "cpu"})
    if limits:
        yield "[container.resources]"
    if "memory" in limits:
        yield f"memory_bytes = {parse_memory(limits['memory'])}"
    if "cpu" in limits:
        yield f"cpu_milli = {parse_processors(limits['cpu'])}"


def _empty_directory(volume: Mapping[str, Any]) -> Lines:
    if "emptyDir" not in volume:
        return
    wanted = read_table(volume["emptyDir"], "emptyDir", {"medium", "sizeLimit"})
    if "sizeLimit" not in wanted:
        raise FormatError("kubernetes.emptyDir", f"{volume['name']} needs a sizeLimit")
    medium = read_text({"medium": "", **wanted}, "medium")
    kind = {"Memory": "tmpfs", "": "scratch"}.get(medium)
    if kind is None:
        raise FormatError("kubernetes.emptyDir", f"unknown medium {medium!r}")
    yield from ("", "[[volume]]", f"name = {quote(read_text(volume, 'name'))}")
    yield from (f"kind = {quote(kind)}", f"size_bytes = {parse_volume_size(wanted['sizeLimit'])}")


def _check_disks(count: int) -> None:
    if count > RAM_DEVICES:
        said = f"expected at most {RAM_DEVICES} disks with the one for images, found {count}"
        raise FormatError(
            "kubernetes.emptyDir", f"{said}: give some medium: Memory (docs/operations.md)"
        )
