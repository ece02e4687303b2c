"""Simulated platforms, in images of the `test` profile and nowhere else.

The package is listed in rootfs-builder/mkosi/test-only.list: a production root does not contain it,
and there is no other switch. Code that imports it does without if it is absent.
"""
