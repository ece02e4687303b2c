"""The way to a registry: who may be asked, how, and what the child with the network fetches."""
