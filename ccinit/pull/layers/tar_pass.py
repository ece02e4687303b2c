"""Our own pass over a layer's tar.

It reads every header, applies the entries to a `LayerTree`, and completes the tar: over the
end-of-archive blocks it writes entries for the directories that the layer implies
(`tar_supplement`). The result says what erofs must show; `erofs.walk` compares this with what it
does show. The rules are in `formats.oci.tar_entry` (for one entry) and `tree` (for entries
together); `erofs.index` makes the index.
"""

import os
from collections.abc import Callable, Iterable, Iterator

from ccinit.errors import CcinitError, LimitExceededError
from ccinit.formats.oci.tar_entry import TarEntry
from ccinit.formats.oci.tar_header import END_OF_ARCHIVE
from ccinit.pull.layers.content_digests import ContentDigests
from ccinit.pull.layers.listing import Listing
from ccinit.pull.layers.outline import encode_outline
from ccinit.pull.layers.tar_reader import TarReader
from ccinit.pull.layers.tar_supplement import encode_directory
from ccinit.pull.layers.tree import LayerTree, MergedDirectory, TreeLimits
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.pull.messages.layers import PassedLayer

_CHUNK_BYTES = 1 << 20
_HEADERS_BYTES = 1 << 14
_NO_CAP = 1 << 63
_COMPLETED = TreeLimits(entries=1 << 20)
"""For a tar that has passed, including the entries that complete it."""


class LayerPass:
    """The pass over one layer while its tar comes."""

    def __init__(
        self, below: MergedDirectory, limits: TreeLimits, form: LayerForm = LayerForm.INDEX
    ) -> None:
        """Start.

        Args:
            below: the layers below, merged; at the end this layer is laid over it.
            limits: caps on the layer.
            form: what the layer will become, which decides how its files' content is identified.
        """
        self._below = below
        self._tree = LayerTree(below, limits)
        self._digests = ContentDigests() if form is LayerForm.COMPRESSED else None
        take_content = self._digests.feed if self._digests is not None else None
        self._reader = TarReader(self._take, take_content)
        self._refusal: CcinitError | None = None

    def feed(self, data: memoryview) -> None:
        """Take the next bytes; errors in them are raised only at the end.

        For a tar with the wrong digest, it is the digest that has to be reported.
        """
        if self._refusal is not None:
            return
        try:
            self._reader.feed(data)
        except CcinitError as error:
            self._refusal = error

    def finish(
        self,
        tar: int,
        outline: Callable[[bytes], None] | None = None,
        *,
        max_bytes: int = _NO_CAP,
    ) -> PassedLayer:
        """Complete the file `tar`, which holds all the bytes fed, and return what it contains.

        Args:
            tar: open for writing.
            outline: gets the parts of the layer's outline (`outline`).
            max_bytes: cap on the file when it is complete.

        Raises:
            FormatError: `tar.…`, the rule it breaks.
            LimitExceededError: `tar.…`, `pull.layer_bytes`.
        """
        if self._refusal is not None:
            raise self._refusal
        end = self._reader.finish()
        tar_bytes = _complete(tar, end, self._supplement(), max_bytes)
        listing = Listing()
        self._tree.list_into(listing, self._digests.finish() if self._digests else None)
        if outline is not None:
            for part in encode_outline(self._tree.root, self._below):
                outline(part)
        self._below.apply(self._tree.root)
        return PassedLayer(
            listing=listing.digests(),
            records=listing.records,
            file_bytes=self._reader.file_bytes,
            tar_bytes=tar_bytes,
        )

    def _supplement(self) -> Iterator[bytes]:
        """Settle the directories that no entry describes; yield entries that complete the tar."""
        for path, attributes in self._tree.settle_implied():
            yield encode_directory(path, attributes)
        yield END_OF_ARCHIVE

    def _take(self, entry: TarEntry) -> None:
        self._tree.add(entry)
        if self._digests is not None:
            self._digests.begin(entry)


def lay_over(tar: int, below: MergedDirectory) -> None:
    """Lay the layer in the file `tar` over those below: one that has passed, or its outline."""
    tree = LayerTree(below, _COMPLETED)
    reader = TarReader(tree.add)
    offset = 0
    while chunk := os.pread(tar, _HEADERS_BYTES, offset):
        reader.feed(memoryview(chunk))
        offset += len(chunk) + reader.leap()
    reader.finish()
    below.apply(tree.root)


def _complete(tar: int, end: int, parts: Iterable[bytes], max_bytes: int) -> int:
    """Write the parts over the end of the archive; return where they end.

    An entry takes up to 17 KB, with the attributes of the directory in the layers below. So they
    are not held in memory at once, and the cap is checked before each is written.
    """
    os.ftruncate(tar, end)
    with open(tar, "wb", buffering=_CHUNK_BYTES, closefd=False) as file:
        file.seek(end)
        for part in parts:
            end += len(part)
            if end > max_bytes:
                raise LimitExceededError("pull.layer_bytes", f"more than {max_bytes}")
            file.write(part)
    return end
