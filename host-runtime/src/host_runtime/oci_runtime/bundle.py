"""What an OCI bundle says, as far as a guest can honour it. Pure.

The measured document defines the pod, so the bundle's process, root, mounts and resources, which
engines always send, have no effect (except what applies to the host's process that is the
container: the OOM score, and, if the operator wants it, the cgroup and its limit of memory).
Whatever the caller would miss, and would not be told of (a terminal, hooks, devices, another
machine), is refused.

Specification: OCI runtime-spec 1.2, `config.md`, `config-linux.md`, `config-vm.md`; of 1.3,
`netDevices`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ccinit.errors import ConfigError, FormatError, LimitExceededError
from host_runtime.oci_runtime.pod_part import PodPart, read_pod_part

CONFIG_FILE: Final = "config.json"
MAX_CONFIG_BYTES: Final = 8 << 20  # an initdata document of 1 MiB, as base64, and as much again
SPEC_VERSION: Final = "1.2.0"
_SPEC_MAJOR: Final = "1."
_MAX_OOM_SCORE: Final = 1000
_RESOLVER_FILE: Final = "/etc/resolv.conf"
_DOCKERS_HOOK: Final = "libnetwork-setkey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The part of a bundle that has an effect.

    Attributes:
        annotations: all of them; `guest_choice` knows which are ours.
        network_namespace: path of the namespace for the guest's network, "" for a new and empty
            one, None for the runtime's own.
        resolver_file: path of what the engine would mount as /etc/resolv.conf, or the host's own.
        part: which part of a pod it is, if any.
        oom_score_adj: how soon the host's kernel kills it when memory runs short, -1000 to 1000;
            None leaves the caller's.
        resources: `linux.resources`, to tell whether an `update` changes anything.
        cgroup: `linux.cgroupsPath`, as it stands there; "" if there is none.
    """

    annotations: Mapping[str, str]
    network_namespace: str | None
    resolver_file: str = _RESOLVER_FILE
    part: PodPart | None = None
    oom_score_adj: int | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    cgroup: str = ""


def parse_bundle(data: bytes) -> Bundle:
    """Read `config.json`.

    Raises:
        LimitExceededError: `bundle.length`.
        FormatError: `bundle.json`, `bundle.duplicate`, or `bundle.KEY`: not of its type.
        ConfigError: `bundle.version`, `bundle.terminal`, `bundle.hooks`, `bundle.devices`,
            `bundle.vm`: asks for what a guest does not do; `bundle.kubernetes`: as `read_pod_part`.
    """
    config = _parse_json(data)
    version = config.get("ociVersion")
    if not isinstance(version, str) or not version.startswith(_SPEC_MAJOR):
        raise ConfigError("bundle.version", f"ociVersion {version!r:.40}: this runtime reads 1.x")
    linux = _table(config, "linux")
    _refuse_unmet(config, linux)
    annotations = _annotations(config)
    resources = _table(linux, "resources")
    memory_limit(resources)
    return Bundle(
        annotations=annotations,
        network_namespace=_network_namespace(linux),
        resolver_file=_resolver_file(_list(config, "mounts")),
        part=read_pod_part(annotations),
        oom_score_adj=_oom_score_adj(_table(config, "process")),
        resources=resources,
        cgroup=_cgroup(linux),
    )


def memory_limit(resources: Mapping[str, Any]) -> int | None:
    """Return how many bytes of memory resources allow; None: as many as there are.

    Raises:
        FormatError: `bundle.memory`, `bundle.resources`.
    """
    value = _table(resources, "memory").get("limit")
    if value is None:
        return None
    if type(value) is not int:
        raise FormatError("bundle.resources", f"a limit of memory is {value!r:.40}")
    return value if value > 0 else None  # -1 says so, too


def changes_resources(asked: bytes, given: Mapping[str, Any]) -> bool:
    """Whether the resources given to `update` differ from those of a container's bundle.

    One that is absent or empty asks for no change.

    Raises:
        LimitExceededError, FormatError: as `parse_bundle`.
    """
    return _differs(_parse_json(asked, "resources"), given)


def _differs(asked: object, given: object) -> bool:
    if isinstance(asked, dict):
        of = given if isinstance(given, dict) else {}
        return any(_differs(value, of.get(key)) for key, value in asked.items())
    return asked not in (None, []) and asked != given


def _parse_json(data: bytes, name: str = CONFIG_FILE) -> Mapping[str, Any]:
    if len(data) > MAX_CONFIG_BYTES:
        raise LimitExceededError("bundle.length", f"more than {MAX_CONFIG_BYTES} bytes")

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) != len(pairs):
            raise FormatError("bundle.duplicate", "a member occurs twice")
        return members

    try:
        config = json.loads(data.decode(), object_pairs_hook=read_object)
    except (ValueError, RecursionError) as error:
        raise FormatError("bundle.json", f"{name} is not JSON") from error
    if not isinstance(config, dict):
        raise FormatError("bundle.json", f"{name} is not an object")
    return config


def _refuse_unmet(config: Mapping[str, Any], linux: Mapping[str, Any]) -> None:
    if _table(config, "process").get("terminal"):
        raise ConfigError(
            "bundle.terminal", "a guest has no terminal: its owner has `guest-owner exec --tty`"
        )
    hooks = _table(config, "hooks")
    if any(hooks.values()):
        kinds = ", ".join(sorted(kind for kind, entries in hooks.items() if entries))
        detail = f"{kinds}: there is no container on this host to hook"
        if _DOCKERS_HOOK in json.dumps(hooks):  # which a plain `docker run` meets first
            detail += "; Docker's `--network host` and `--network container:NAME` need no hook"
        raise ConfigError("bundle.hooks", detail)
    if _list(linux, "devices") or _table(linux, "netDevices"):
        raise ConfigError("bundle.devices", "devices of this host cannot be given to a guest")
    if config.get("vm"):
        raise ConfigError("bundle.vm", "the machine is the operator's choice, by `image`")


def _annotations(config: Mapping[str, Any]) -> Mapping[str, str]:
    annotations = _table(config, "annotations")
    if not all(isinstance(value, str) for value in annotations.values()):
        raise FormatError("bundle.annotations", "a value is not a string")
    return annotations


def _network_namespace(linux: Mapping[str, Any]) -> str | None:
    for namespace in _list(linux, "namespaces"):
        if not isinstance(namespace, dict):
            raise FormatError("bundle.namespaces", "expected objects")
        if namespace.get("type") == "network":
            return _path(namespace.get("path", ""), "bundle.namespaces", "a path is not a string")
    return None


def _resolver_file(mounts: list[Any]) -> str:
    for mount in mounts:
        if not isinstance(mount, dict):
            raise FormatError("bundle.mounts", "expected objects")
        if mount.get("destination") == _RESOLVER_FILE:
            return _path(mount.get("source"), "bundle.mounts", "a source is not a string")
    return _RESOLVER_FILE


def _path(value: object, reason: str, refusal: str) -> str:
    """Return what the kernel accepts as a path: no NUL, nor a lone surrogate, as JSON allows."""
    if not isinstance(value, str) or any(
        character == "\0" or "\ud800" <= character <= "\udfff" for character in value
    ):
        raise FormatError(reason, refusal)
    return value


def _cgroup(linux: Mapping[str, Any]) -> str:
    value = linux.get("cgroupsPath")
    return "" if value is None else _path(value, "bundle.cgroupsPath", "expected a path")


def _oom_score_adj(process: Mapping[str, Any]) -> int | None:
    value = process.get("oomScoreAdj")
    if value is None:
        return None
    if type(value) is not int or abs(value) > _MAX_OOM_SCORE:
        raise FormatError("bundle.process", f"oomScoreAdj {value!r:.40}: expected -1000 to 1000")
    return value


def _table(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = of.get(key)
    if value is not None and not isinstance(value, dict):
        raise FormatError(f"bundle.{key}", "expected an object")
    return value or {}


def _list(of: Mapping[str, Any], key: str) -> list[Any]:
    value = of.get(key)
    if value is not None and not isinstance(value, list):
        raise FormatError(f"bundle.{key}", "expected an array")
    return value or []
