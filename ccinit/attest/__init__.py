"""Attestation: the guest's evidence, the handshake with the owner's KBS, and what it releases.

The guest is the Attester (RFC 9334), the KBS a Relying Party that asks its own Verifier.
"""
