"""System calls, ioctls and kernel file systems; no policy and no logging.

Each wrapper encodes its arguments, makes one call and turns errno into `KernelError`. A call is
repeated only if its interface requires that, and only up to a limit. The package also has the loop
that runs PID 1's coroutines (`event_loop`).
"""
