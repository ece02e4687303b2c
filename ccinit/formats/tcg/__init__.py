"""The Trusted Computing Group's structures, and event logs."""
