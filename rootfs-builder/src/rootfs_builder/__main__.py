"""`python -m rootfs_builder`: the same as the `rootfs-builder` command."""

import sys

from rootfs_builder.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
