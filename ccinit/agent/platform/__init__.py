"""PID 1's access to the platform: devices for the children that make evidence, and registers."""
