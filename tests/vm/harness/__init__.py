"""Boots QEMU guests for tests: kernel, initrd, virtual TPM, disks, and results brought back."""
