"""Stand-ins for platforms, in images of the `test` profile and nowhere else.

The package is listed in rootfs-builder/mkosi/test-only.list: a production root does not hold it,
and there is no switch besides that. Whoever asks for it does without where it is not there.
"""
