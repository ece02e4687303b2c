"""Tokens of other Verifiers, shown by guests instead of evidence (RATS' passport model)."""
