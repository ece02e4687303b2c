"""What the owner and the workload may ask for; each caller has a child that reads its bytes."""
