"""The guest: PID 1 and agent of a confidential-container virtual machine.

It is the only package of ours in the measured image. ARCHITECTURE.md describes its layers and says
where to begin reading.
"""
