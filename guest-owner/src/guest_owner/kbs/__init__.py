"""A Key Broker Service for RCAR 0.4.0 with a verifier that checks what the owner registered."""
