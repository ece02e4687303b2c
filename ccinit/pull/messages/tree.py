"""What PID 1 and the child that walks mounted layers say to each other; see `layers`."""

from ccinit.formats.encoding.digest import Digest
from ccinit.pull.messages.layer_form import LayerForm
from ccinit.values import frozen


@frozen
class TreeRequest:
    """Which mounted layers to walk: each directory is the root of one erofs mount.

    Attributes:
        form: of all of them.
    """

    roots: tuple[str, ...]
    form: LayerForm = LayerForm.INDEX


@frozen
class TreeDigests:
    """The digests of the canonical listings, in the order of the request."""

    listings: tuple[Digest, ...]
