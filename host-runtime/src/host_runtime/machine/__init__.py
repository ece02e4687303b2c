"""A virtual machine as a value, and what QEMU is given for it."""
