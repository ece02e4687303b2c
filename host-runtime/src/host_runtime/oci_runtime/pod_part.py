"""Which part of a CRI pod a bundle is, by the annotations of containerd's CRI. Pure.

A pod has one bundle for its sandbox, which here is the guest, and one for each of its containers.
These are its members (`pod_member`), each a process that waits (`pod_member_process`).
Annotations: containerd 1.7, `pkg/cri/annotations`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ccinit.errors import ConfigError

CONTAINER_TYPE: Final = "io.kubernetes.cri.container-type"
SANDBOX_ID: Final = "io.kubernetes.cri.sandbox-id"
CONTAINER_NAME: Final = "io.kubernetes.cri.container-name"
_OF_CRI_O: Final = "io.kubernetes.cri-o.ContainerType"

INFRA_ID: Final = "io.kubernetes.cri-o.SandboxID"
"""By podman, without a type: id of the pod's infra container, which says nothing of the kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPart:
    """One part of a pod.

    Attributes:
        sandbox: id of the sandbox's container.
        member: name of the container that this part stands for, "" for the sandbox itself.
    """

    sandbox: str
    member: str = ""


def read_pod_part(annotations: Mapping[str, str]) -> PodPart | None:
    """Return the part that a bundle with these annotations is; None if it is not part of a pod.

    Raises:
        ConfigError: `bundle.kubernetes`: the annotations are those of CRI-O, or not containerd's.
    """
    if _OF_CRI_O in annotations:
        raise ConfigError("bundle.kubernetes", f"{_OF_CRI_O}: pods of CRI-O were not tried")
    kind = annotations.get(CONTAINER_TYPE)
    if kind is None:
        return None
    sandbox = _required(annotations, SANDBOX_ID)
    if kind == "sandbox":
        return PodPart(sandbox=sandbox)
    if kind == "container":
        return PodPart(sandbox=sandbox, member=_required(annotations, CONTAINER_NAME))
    raise ConfigError("bundle.kubernetes", f"{CONTAINER_TYPE}: {kind!r:.40} is not a part of a pod")


def _required(annotations: Mapping[str, str], key: str) -> str:
    value = annotations.get(key)
    if not value:
        raise ConfigError("bundle.kubernetes", f"{key} is missing")
    return value
