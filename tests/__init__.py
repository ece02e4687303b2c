"""Tests, the demo and the benchmarks: everything that drives the four parties together."""
