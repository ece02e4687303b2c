"""What an owner should know of a manifest and a ccinit.toml that the guest accepts.

None of it is refused: it depends on what is not at hand, or it is legal and rarely meant.
"""

from collections.abc import Iterator
from typing import Final

from ccinit.errors import FormatError
from ccinit.formats.initdata.guest_config import GuestConfig, Limits
from ccinit.formats.pod.capability import Capability
from ccinit.formats.pod.container import ContainerKind
from ccinit.formats.pod.manifest import PodManifest
from ccinit.formats.pod.scratch_tags import check_tag_budget
from ccinit.formats.pod.secret import FileSecret
from ccinit.formats.pod.volume import PersistentVolume, select_kind

_READ_ONLY_MODES: Final = (0o400, 0o404, 0o440, 0o444, 0o500)
"""Modes that are written for files, and whose digits TOML also takes as a decimal number.

As such they are modes that nobody writes (0o620, 0o624, 0o670, 0o674, 0o764). The digits of larger
modes, such as 640, are more than a mode can be, and refused.
"""

_RARELY_ENOUGH_SECONDS: Final = 10
"""Each of these phases starts several processes, or waits for the host or the network."""

_TYPED_AS_DECIMAL: Final = {int(f"{mode:o}"): mode for mode in _READ_ONLY_MODES}


def list_notes(pod: PodManifest, config: GuestConfig | None) -> Iterator[str]:
    """Yield one line each; `config` is None if only the manifest is there."""
    yield from _describe_growth(pod)
    yield from _describe_modes(pod)
    yield from _describe_shared_processes(pod)
    if config is None:
        yield from _describe_default_limits(pod)
    else:
        yield from _describe_closed_debug(config)
        yield from _describe_short_limits(config.limits)


def _describe_growth(pod: PodManifest) -> Iterator[str]:
    for volume in select_kind(pod.volumes, PersistentVolume):
        if volume.grown_from_bytes:
            former = " or ".join(map(str, sorted(volume.grown_from_bytes)))
            yield (
                f"volume {volume.name}: a file system of a disk of {former} bytes"
                f" grows to {volume.size_bytes}; one of any other size is refused"
            )


def _describe_modes(pod: PodManifest) -> Iterator[str]:
    files = [("file", one.container, one.path, one.mode) for one in pod.files]
    files += [
        ("secret", one.container, one.path, one.mode)
        for one in pod.secrets
        if isinstance(one, FileSecret)
    ]
    for table, container, path, mode in files:
        if mode in _TYPED_AS_DECIMAL:
            yield (
                f"{table} {path} of {container}: mode = {mode} is 0o{mode:o};"
                f" write 0o{_TYPED_AS_DECIMAL[mode]:o} if that is meant"
            )


def _describe_shared_processes(pod: PodManifest) -> Iterator[str]:
    """Yield which containers are not kept from others' secrets by having another user."""
    main = [one for one in pod.containers if one.kind is ContainerKind.MAIN]
    if not pod.share.process or len(main) == 1:
        return
    for container in main:
        if Capability.SETUID in container.capabilities:
            yield (
                f"container {container.name}: with SETUID it can become any user, and read the"
                " secrets of all main containers, whose processes it sees ([share] process)"
            )


def _describe_default_limits(pod: PodManifest) -> Iterator[str]:
    try:
        check_tag_budget(pod.volumes, Limits().scratch_tags_bytes)
    except FormatError as error:
        yield f"only if its ccinit.toml (--config FILE) raises a limit: {error.detail}"


def _describe_closed_debug(config: GuestConfig) -> Iterator[str]:
    """Yield which settings of debug are without effect, since nobody can open it."""
    if config.debug.allowed and config.debug.tools is None:
        yield "debug.allowed is without effect: debug never opens without [debug.tools]"
    if config.debug.tools is not None and config.owner is None:
        yield "debug.tools is without effect: without [owner], nobody can open debug"


def _describe_short_limits(limits: Limits) -> Iterator[str]:
    """Yield which phases have so little time that a boot rarely gets through them."""
    usual = Limits()
    for name, seconds, default in (
        ("network", limits.network_seconds, usual.network_seconds),
        ("attest", limits.attest_seconds, usual.attest_seconds),
        ("pull", limits.pull_seconds, usual.pull_seconds),
    ):
        if seconds < _RARELY_ENOUGH_SECONDS:
            yield (
                f"limits.{name}_seconds = {seconds}: rarely enough, and a guest ends if it is"
                f" not; the default is {default}"
            )
