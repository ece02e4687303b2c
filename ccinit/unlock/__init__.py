"""From keys to mounted disks: scratch of this boot, and persistent volumes of the owner.

Both are dm-crypt with authentication on dm-integrity, made by ioctl from constants: no header on
the host's disk decides anything. Which disk has which role is left to `ccinit.boot.disks`; fetching
keys to `attest`; running `mkfs` in a child to the caller.
"""
