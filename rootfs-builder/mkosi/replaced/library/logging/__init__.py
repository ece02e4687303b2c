"""Stands in for logging: the libraries' lines have nobody to read them.

No handler was ever set, so most were dropped and the rest went to /dev/null, after the library had
brought traceback, string and their kind. What a guest has to say goes to its sealed log, by
`ccinit.agent`.
"""

from typing import Self

CRITICAL, ERROR, WARNING, INFO, DEBUG, NOTSET = 50, 40, 30, 20, 10, 0
WARN = WARNING


class NullHandler:
    """What libraries give their loggers first."""


class Logger:
    """A logger that is off for every level."""

    def __init__(self, name: str) -> None:
        """Keep the name, which libraries ask for."""
        self.name = name

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802  # as in the library
        """Return that it is off."""
        return False

    def setLevel(self, level: int) -> None:  # noqa: N802  # as in the library
        """Stay off."""

    def addHandler(self, handler: object) -> None:  # noqa: N802  # as in the library
        """Take none."""

    def getChild(self, _suffix: str) -> Self:  # noqa: N802  # as in the library
        """Return one that is off, too."""
        return self

    def debug(self, *arguments: object, **options: object) -> None:
        """Drop a line."""

    info = warning = error = exception = critical = log = debug


def getLogger(name: str = "root") -> Logger:  # noqa: N802  # as in the library
    """Return a logger that is off."""
    return Logger(name)
