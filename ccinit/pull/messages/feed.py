"""What PID 1 and the child that feeds tars to mkfs.erofs say to each other; see `layers`."""

from ccinit.values import frozen


@frozen
class FeedRequest:
    """Asks the child to pass the tar on, and to free its memory on the way."""


@frozen
class FedTar:
    """All of it has gone into the pipe."""
