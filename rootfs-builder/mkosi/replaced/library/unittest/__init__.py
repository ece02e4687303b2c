"""Stands in for unittest: pyroute2 takes one name from `unittest.mock`, and runs no tests.

The library's own brings what finds, runs and reports tests, argparse and difflib among it.
"""
