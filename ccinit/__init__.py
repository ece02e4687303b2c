"""The guest: PID 1 and agent of a confidential-container virtual machine.

The only package of ours in the measured image. ARCHITECTURE.md says in which layers it lies and
where to begin to read.
"""
