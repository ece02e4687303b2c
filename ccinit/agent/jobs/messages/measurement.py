"""Between PID 1 and the children that bind initdata and extend registers: `measure`, `extend`."""

from ccinit.formats.evidence.tee import Tee
from ccinit.values import frozen


@frozen
class BindRequest:
    """Digest of the initdata document, by the platform's algorithm."""

    tee: Tee
    digest: bytes


@frozen
class BindReply:
    """The digest is bound.

    Attributes:
        tee: the platform, as its device names it.
        parameters: what a request to the KBS has to tell of this platform, JSON; or empty.
    """

    tee: Tee
    parameters: bytes = b""


@frozen
class ExtendRequest:
    """Digests to extend into a register whose value before the first of them is known.

    Attributes:
        boundary: the register is that of the debug boundary, not that of the event log.
    """

    tee: Tee
    before: bytes
    digests: tuple[bytes, ...]
    boundary: bool = False


@frozen
class ExtendReply:
    """The register's value, read back."""

    value: bytes
