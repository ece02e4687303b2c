"""The guest's one way to the network: TLS 1.3 to a pinned root, and HTTP under caps."""
