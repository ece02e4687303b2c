"""One guest's life on this machine: its folder, its programs in order, ways to it."""
