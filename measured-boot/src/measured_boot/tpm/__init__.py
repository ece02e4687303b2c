"""Registers of a TPM: the events of each boot path, and the values that follow from them."""
