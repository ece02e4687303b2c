"""How all our commands take arguments and files, begin, end, and say what failed."""
