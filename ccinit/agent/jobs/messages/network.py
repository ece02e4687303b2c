"""Between PID 1 and the child `net`; its request is `boot.network_offer`'s plan."""

from ccinit.values import frozen


@frozen
class NetworkReady:
    """The link is up, with its address and route."""
