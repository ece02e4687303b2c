"""How all our commands take arguments and files, begin, end, and say what failed.

Nothing in here is about measured boot, nor knows anything that is. It is here because this is the
one project that host, owner and builder all stand on, and the guest, which has no commands, must
not hold it.
"""
