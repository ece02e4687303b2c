"""From keys to mounted disks: scratch for this boot, and the volumes that the owner provides.

Device-mapper tables are built from constants and loaded by ioctl: dm-crypt, usually with
authentication on dm-integrity (`scratch`, `volume`), and dm-verity (`verity_volume`). Nothing on
the host's disk influences them except the header of a LUKS2 volume, which is read once (`luks2`).
`ccinit.boot.disks` assigns disks their roles, `attest` fetches keys, and the caller runs `mkfs` in
a child.
"""
