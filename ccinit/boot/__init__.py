"""From an executed PID 1 to a guest with file systems, limits, network and its configuration bytes.

Disks and their roles, the pseudo file systems, kernel settings, the network offer, the clock.
"""
