"""The guest's only way to the network: TLS 1.3 to a pinned root, and HTTP under caps."""
