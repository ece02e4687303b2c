"""What PID 1 and the child that walks mounted layers say to each other; see `layers`."""

from collections.abc import Sequence
from itertools import chain, pairwise

from ccinit.formats.encoding.digest import Digest
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.values import frozen

LISTING_PARTS = 2
"""A layer's canonical listing is hashed in parts, so that as many processors can walk one layer."""


def index_of(root: str) -> str:
    """Return the path of the index that is mounted at `root`."""
    return f"{root}.erofs"


@frozen
class TreeRequest:
    """Which mounted layers to walk: each directory is the root of one erofs mount.

    Attributes:
        roots: absolute; beside each is its index (`index_of`), unless they are compressed.
        parts: those of each listing (`layers.listing`) that are wanted.
        form: of all of them.
    """

    roots: tuple[str, ...]
    parts: tuple[int, ...]
    form: LayerForm = LayerForm.INDEX


@frozen
class TreeDigests:
    """The digests of the canonical listings' parts, in the order of the request."""

    listings: tuple[tuple[Digest, ...], ...]


def share_parts(walkers: int) -> tuple[tuple[int, ...], ...]:
    """Return the parts of the listing that each walker gets, as evenly as possible and in order."""
    bounds = [walker * LISTING_PARTS // walkers for walker in range(walkers + 1)]
    return tuple(tuple(range(*pair)) for pair in pairwise(bounds))


def join_parts(walked: Sequence[TreeDigests]) -> TreeDigests:
    """Join all walkers' answers; if one of them has too few layers, so has the result."""
    layers = zip(*(digests.listings for digests in walked), strict=False)
    return TreeDigests(listings=tuple(tuple(chain(*parts)) for parts in layers))
