"""System calls, ioctls and kernel file systems; no policy, no retries, no logging.

Each wrapper encodes its arguments, makes one call and turns errno into `KernelError`.
"""
