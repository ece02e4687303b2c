"""Digest whatever decides a build's result, so that what is up to date is not built again."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from rootfs_builder.guest_image.import_closure import SearchRoot, compute_closure
from rootfs_builder.workspace import Workspace


def digest_inputs(
    workspace: Workspace, what: str, files: Iterable[Path], modules: Iterable[str]
) -> str:
    """Return one digest over files of the repository and the builder's own code.

    Args:
        workspace: the repository.
        what: name of the result, so that two of the same inputs differ.
        files: anywhere in the repository or the project.
        modules: of the builder; what they import counts, too.
    """
    repository = workspace.repository
    # The guest's own package, too: builder and guest share formats (`ccinit.formats.disk.verity`).
    parts = ("rootfs-builder/src", "measured-boot/src", ".")
    roots = tuple(SearchRoot(path=repository / part) for part in parts)
    code = compute_closure(tuple(modules), roots, frozenset())
    digest = hashlib.sha256(what.encode())
    for path in sorted({*files, *(module.path for module in code.values())}):
        if "__pycache__" in path.parts:
            continue
        name = os.fsencode(os.path.relpath(path, repository))
        data = path.read_bytes()
        digest.update(b"%d %s %d %s" % (len(name), name, len(data), data))
    return digest.hexdigest()
