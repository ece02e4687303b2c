"""How all our commands take arguments and files, begin, end, and report failures.

Nothing in here is about measured boot or depends on it. It is in this project because host, owner
and builder all build on this one, while the guest, which has no commands, must not contain it.
"""
