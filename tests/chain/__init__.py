"""The whole chain: owner, KBS, registry, host and guest, each by its own tools.

The demo tells it, the benchmarks time it, and tests of `tests/vm` change one part of it each.
"""
