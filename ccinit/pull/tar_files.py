"""The files of one image's tars: PID 1 makes them, one child appends, the next reads and completes.

    unpack ──appends──▶ layer-N.tar ──is read while it grows──▶ layers

A compromised decompressor can append to a tar but never change what is already in it: its fd is
append-only, and its system calls cannot change that (`APPENDER` in `agent`). So what `layers`
hashes stays as it is. Anything appended after that, even between the end of a tar and its
completion, shows in the size, which is compared once both children are dead.
"""

import os
from collections.abc import Callable, Sequence

from ccinit.errors import ChildError
from ccinit.kernel.libc import kernel_error
from ccinit.pull.layers.file import write_error
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import PassedLayer
from ccinit.pull.messages.tars import layer_file, outline_file

_MODE = 0o600


class TarFiles:
    """The tars that come for one image."""

    def __init__(self, directory: str, positions: range, form: LayerForm) -> None:
        """Start with no files.

        Args:
            directory: of the image, PID 1's own and empty.
            positions: of the layers to come, among all of the image.
            form: what they are turned into.
        """
        self._directory = directory
        self._positions = positions
        self._form = form
        self._made: set[str] = set()

    def open_to_append(self, position: int) -> tuple[int, ...]:
        """Return the file of a layer's tar for the child `unpack`.

        Raises:
            ChildError: `child.protocol`, no such layer comes.
            LimitExceededError: `pull.enospc`.
            KernelError: the kernel refused.
        """
        return (self._open(layer_file, position, os.O_WRONLY | os.O_APPEND),)

    def open_to_verify(self, position: int) -> tuple[int, ...]:
        """Return the tar for the child `layers`, and a file for its outline if there will be one.

        Raises as `open_to_append`.
        """
        tar = self._open(layer_file, position, os.O_RDWR)
        if self._form is not LayerForm.COMPRESSED:
            return (tar,)
        try:
            return tar, self._open(outline_file, position, os.O_WRONLY)
        except BaseException:
            os.close(tar)
            raise

    def verify_sizes(self, layers: Sequence[PassedLayer]) -> None:
        """Check the tars' sizes once they are verified and both children are dead.

        Raises:
            ChildError: `child.protocol`, not one layer per tar; `pull.stream`, a tar does not have
                the size that the child `layers` reported.
            KernelError: the kernel refused.
        """
        if len(layers) != len(self._positions):
            raise ChildError("child.protocol", "not a layer for each diff_id")
        for position, layer in zip(self._positions, layers, strict=True):
            path = os.path.join(self._directory, layer_file(position))
            try:
                size = os.lstat(path).st_size
            except OSError as error:
                raise kernel_error(error, "lstat", path) from error
            if size != layer.tar_bytes:
                raise ChildError("pull.stream", f"{size} bytes in {layer_file(position)}")

    def _open(self, name: Callable[[int], str], position: int, flags: int) -> int:
        if position not in self._positions:
            raise ChildError("child.protocol", f"no layer {position} comes")
        path = os.path.join(self._directory, name(position))
        if path not in self._made:
            flags |= os.O_CREAT | os.O_EXCL
        try:
            file = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise write_error(error, "open", path) from error
        self._made.add(path)
        return file
