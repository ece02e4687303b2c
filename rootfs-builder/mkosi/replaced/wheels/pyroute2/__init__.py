"""pyroute2 without its collective import.

The package's own `__init__` imports every protocol, a database (sqlite3) and a 9p server: 0.2 s and
megabytes for nothing. This one exports what the guest uses.
"""

from pyroute2.iproute.linux import IPRoute

__all__ = ["IPRoute"]
