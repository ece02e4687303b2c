"""Connections that the host carries and cannot read."""
