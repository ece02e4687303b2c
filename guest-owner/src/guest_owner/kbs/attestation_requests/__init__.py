"""What this KBS asks platforms that attest only on request, and how a guest carries it."""
