"""Everything that a host can see of a guest, and how it is searched."""
