"""Stands in for unittest.mock: pyroute2 has a queue made of one, in sockets that no guest opens."""


class Mock:
    """An attribute of a class that nothing here makes."""
