"""Composition: stage 0 of the initrd, and PID 1 from its first phase to its one ending."""
