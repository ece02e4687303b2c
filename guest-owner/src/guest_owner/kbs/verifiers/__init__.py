"""Verifiers (RATS, RFC 9334): one module for each platform, chosen by `table`."""
