"""Preparing a container once, for all of its starts: what it sees, and the spec that shows it.

Scope: the order of the steps, and how each is undone. Left to others: what the steps do (the
modules of this room), and the starts (`ccinit.run.supervisor`).

Between two starts, or while `crun` works, whoever has a descriptor of the container's root may
change it: another container can have been passed one, through a socket. So whatever depends on the
root is found, made and held here, and `crun` gets no source of a mount that lies in it.
"""

import os
from collections.abc import Callable, Iterator
from typing import TypeAlias

from ccinit.kernel.descriptor import Descriptor
from ccinit.kernel.libc import make_new_directory, open_path
from ccinit.kernel.mount import detach
from ccinit.run.image_volumes import find_image_volumes
from ccinit.run.rootfs import (
    activate_rootfs,
    check_mount_points,
    hold_mount_points,
)
from ccinit.run.secrets import erase_secrets, write_secrets
from ccinit.run.sources import mount_from_root, mount_read_only, remove_mount_point
from ccinit.run.spec import plan_spec
from ccinit.run.user_files import AskUserChild, find_identity
from ccinit.run.users import Identity
from ccinit.run.workload import BindMount, Prepared, Workload
from ccinit.values import replace

Undo: TypeAlias = Callable[[Callable[[str], None], str], object]
"""Registers a step of the clean-up, and its path; the newest goes first."""


async def prepare(workload: Workload, ask: AskUserChild, undo: Undo) -> Prepared:
    """Prepare a container.

        1. its directory, and its root in it;
        2. the places in this root: of kernel file systems, of the image's volumes; and its user;
        3. its secrets, as files of this user;
        4. the sources of its mounts, where no container reaches them;
        5. its spec.

    Args:
        workload: the container.
        ask: has the image's user files read.
        undo: each step that was begun is registered here, also if a later one fails.

    Raises:
        CcinitError: the image, its registry of users, or the kernel; with a reason below `run`.
    """
    run_dir, root = workload.run_dir, f"{workload.run_dir}/root"
    make_new_directory(run_dir, 0o700)
    undo(remove_mount_point, run_dir)
    undo(remove_mount_point, root)
    activate_rootfs(workload.lowers, workload.scratch, root)
    undo(detach, root)
    identity, places = await _inspect_root(root, workload, ask)
    secrets = f"{run_dir}/secrets"
    undo(erase_secrets, secrets)
    binds = workload.binds + write_secrets(secrets, workload.secret_files, identity)
    spec = plan_spec(
        workload,
        identity,
        root,
        image_volumes=tuple(_take_volumes(run_dir, root, places, undo)),
        binds=tuple(_shield(run_dir, binds, undo)),
    )
    return Prepared(spec=spec, identity=identity)


async def _inspect_root(
    root: str, workload: Workload, ask: AskUserChild
) -> tuple[Identity, tuple[str, ...]]:
    """Return the user to run as, and the places of the image's own volumes."""
    with Descriptor(open_path(root, os.O_PATH | os.O_DIRECTORY)) as root_fd:
        check_mount_points(root_fd)
        hold_mount_points(root_fd)
        user = workload.container.user
        user = workload.image.user if user is None else user
        identity = await find_identity(root_fd, user, ask)
        taken = [one.target for one in workload.binds] + [one.path for one in workload.secret_files]
        return identity, find_image_volumes(root_fd, root, workload.image.volumes, taken)


def _take_volumes(
    run_dir: str, root: str, places: tuple[str, ...], undo: Undo
) -> Iterator[BindMount]:
    """Mount the image's volumes outside of the root; yield where the container gets them."""
    for number, place in enumerate(places):
        source = f"{run_dir}/volume-{number}"
        undo(remove_mount_point, source)
        mount_from_root(root, place, source)
        undo(detach, source)
        yield BindMount(source=source, target=place, read_only=False)


def _shield(run_dir: str, binds: tuple[BindMount, ...], undo: Undo) -> Iterator[BindMount]:
    """Yield `binds`, with a read-only source for each that is to be read-only."""
    for number, bind in enumerate(binds):
        if not bind.read_only:
            yield bind
            continue
        source = f"{run_dir}/bind-{number}"
        undo(remove_mount_point, source)
        mount_read_only(bind.source, source)
        undo(detach, source)
        yield replace(bind, source=source)
