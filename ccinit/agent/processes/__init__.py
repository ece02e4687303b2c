"""How PID 1 starts, limits, talks to and reaps its children; `child` is their side of it."""
