"""Registers of a TPM: the events of each boot path, and what they come to."""
