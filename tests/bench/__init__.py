"""Benchmarks: ratios against other tools, measured side by side in one run."""
