"""The commands that launch a guest: their arguments, and what they do."""
