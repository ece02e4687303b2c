"""Stands in for sysconfig: how an interpreter was built, and where it is installed.

`ctypes` imports it (in Python 3.13.18; not yet in 3.13.5) and asks it on AIX and Cygwin alone. The
library's own brings threading with it, which stage 0 does not have.
"""


def get_config_var(name: str) -> None:
    """Return nothing: no variable of a build is known here."""
