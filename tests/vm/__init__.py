"""Tests that need a guest kernel.

`harness` boots guests; `guest` holds test modules that run *inside* one, all in one boot, and are
reported as ordinary items. A new file `guest/test_….py` needs nothing else.
"""
