"""What turns a new PID 1 into a guest with file systems, limits, network and configuration.

Disks and their roles, the pseudo file systems, kernel settings, the network offer, the clock.
"""
