"""System calls, ioctls and kernel file systems; no policy and no logging.

Each wrapper encodes its arguments, makes one call and turns errno into `KernelError`. A call is
repeated only where its interface asks for that, and not without a limit. Besides them, the loop
that PID 1's coroutines run on (`event_loop`).
"""
