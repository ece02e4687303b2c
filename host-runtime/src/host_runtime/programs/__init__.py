"""How programs are run: found in a tools tree, started and ended by their own pid."""
