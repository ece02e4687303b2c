"""What a platform says about a guest, one module for each form (RATS: Evidence)."""
