"""What a platform says about a guest, one module for each format (RATS: Evidence)."""
