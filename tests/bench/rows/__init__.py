"""What is measured, one module for each group of rows.

A module has `measure(bench)`, which returns rows and uses `measurement.interleave` and
`measurement.compare`. Its docstring says what each side does, what is left out, and why the goal is
what it is. A new module gets one line in `tests.bench.__main__.GROUPS`.
"""
