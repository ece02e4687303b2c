"""What a member of a CRI pod may be: a container of its sandbox's measured document. Pure.

Nothing of its bundle reaches the guest, so it can only name what runs there anyway.
"""

from collections.abc import Mapping

from ccinit.errors import ConfigError
from ccinit.formats.initdata.document import parse_initdata
from ccinit.formats.initdata.guest_files import parse_guest_files
from ccinit.formats.pod.container import ContainerKind
from host_runtime.oci_runtime.guest_choice import COCO_INITDATA, PREFIX


def require_member(name: str, document: bytes) -> None:
    """Require that a container of this name is a main one of the document's pod.

    Raises:
        ConfigError: `sandbox.container`: there is none, or it is an init container, which has long
            ended in the guest when the host would wait for it.
        FormatError: `initdata.…`, `ccinit.…`, `pod.…`, `aa.…` or `cdh.…`.
    """
    _config, manifest = parse_guest_files(parse_initdata(document))
    kinds = {container.name: container.kind for container in manifest.containers}
    if name not in kinds:
        known = ", ".join(kinds)
        raise ConfigError(
            "sandbox.container",
            f"{name!r:.80} is not a container of the measured pod: it has {known}",
        )
    if kinds[name] is ContainerKind.INIT:
        raise ConfigError(
            "sandbox.container", f"{name}: the guest runs its init containers by itself"
        )


def require_same_guest(annotations: Mapping[str, str], of_sandbox: Mapping[str, str]) -> None:
    """Require that a container asks for the very guest that its sandbox has booted.

    containerd passes a pod's annotations on to each of its bundles.

    Raises:
        ConfigError: `sandbox.annotation`.
    """
    for key, value in annotations.items():
        is_ours = key.startswith(PREFIX) or key == COCO_INITDATA
        if is_ours and of_sandbox.get(key) != value:
            raise ConfigError(
                "sandbox.annotation", f"{key:.80}: its sandbox has booted another guest"
            )
