"""PID 1's hand on the platform: devices for whoever makes evidence, and the registers."""
