"""Access to registries: whom to ask, how, and what the child with the network fetches."""
