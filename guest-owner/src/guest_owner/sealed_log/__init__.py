"""The owner's end of the sealed log: its key, and reading what a host has collected."""
