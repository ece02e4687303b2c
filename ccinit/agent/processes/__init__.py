"""How PID 1 starts, limits, talks to and buries its children; `child` is their side of it."""
