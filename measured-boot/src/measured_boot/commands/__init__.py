"""The commands of `measured-boot`, one module for each."""
