"""The job of the `layers` child: from downloaded bytes to layers that may be indexed.

It has no network and trusts nothing that the `registry` child says: the pinned digest leads to the
manifest, that to the config, that to the digest of each layer's tar, and all of them are hashed
here. Only then are the tars read, bottom first, each on top of what the ones before show.
"""

import os
from typing import Protocol

from ccinit.errors import FormatError, KernelError, LimitExceededError
from ccinit.formats.digest import sha256_digest
from ccinit.pull.documents import verify_config, verify_documents, verify_encryption
from ccinit.pull.layer_tree import TreeLimits, empty_merged_root
from ccinit.pull.messages import LayersRequest, PassedLayer, VerifiedLayers
from ccinit.pull.tar_pass import pass_layer, verify_diff_id

MAX_IMAGE_RECORDS = 1_000_000


class LayersChannel(Protocol):
    """What the job has of the outside: the directory with the tars."""

    @property
    def workspace(self) -> str:
        """The path of the directory."""


def layers_job(request: LayersRequest, channel: LayersChannel) -> VerifiedLayers:
    """Verify an image, check and complete its layers' tars.

    Raises:
        VerificationError: `pull.…`, a digest does not fit.
        FormatError: `manifest.…`, `image_config.…`, `tar.…`.
    """
    manifest = verify_encryption(
        verify_documents(request.documents, request.pinned), request.encryption
    )
    config = verify_config(request.config, manifest)
    if len(request.tars) != len(config.diff_ids):
        raise FormatError("pull.layers", f"{len(request.tars)} tars, not {len(config.diff_ids)}")
    merged = empty_merged_root()
    passed: list[PassedLayer] = []
    for name, diff_id in zip(request.tars, config.diff_ids, strict=True):
        tar = _open_tar(os.path.join(channel.workspace, name))
        try:
            verify_diff_id(tar, diff_id)
            passed.append(pass_layer(tar, merged, TreeLimits()))
        except OSError as error:
            if isinstance(error, KernelError):
                raise
            raise KernelError(error.errno or 0, "tar", name) from error
        finally:
            os.close(tar)
        if sum(layer.records for layer in passed) > MAX_IMAGE_RECORDS:
            raise LimitExceededError("tar.entries", f"more than {MAX_IMAGE_RECORDS} in the image")
    used = request.documents[-1]
    return VerifiedLayers(manifest=sha256_digest(used), config=config, layers=tuple(passed))


def _open_tar(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError(error.errno or 0, "open", path) from error
