"""The audit log: what an entry says, and the files that entries are in."""
