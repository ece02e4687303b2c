"""The pod manifest: what the guest runs, and nothing else."""
