"""Encrypted layers: keys are opened one by one, bytes decrypted by a child without a network."""
