"""From keys to mounted disks: scratch of this boot, and the volumes that the owner brings.

Tables are made by ioctl from constants: dm-crypt, as a rule with authentication on dm-integrity
(`scratch`, `volume`), and dm-verity (`verity_volume`). Nothing on the host's disk decides anything
but the header of a LUKS2 volume, which is read once (`luks2`). Which disk has which role is left to
`ccinit.boot.disks`; fetching keys to `attest`; running `mkfs` in a child to the caller.
"""
