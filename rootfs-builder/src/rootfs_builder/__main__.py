"""`python -m rootfs_builder` is the command `rootfs-builder`."""

from rootfs_builder.entry import main

if __name__ == "__main__":
    raise SystemExit(main())
