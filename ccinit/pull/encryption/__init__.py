"""Encrypted layers: keys are unwrapped one by one; a child without a network decrypts."""
