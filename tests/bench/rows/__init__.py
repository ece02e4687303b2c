"""What is measured, one module for each group of rows.

A module has `measure(bench)`, which returns rows, and a docstring that says what each side does,
what is left out, and why the goal is what it is. It does the rest with `measurement.interleave`
and `measurement.compare`. A new module gets one line in `tests.bench.__main__.GROUPS`.
"""
