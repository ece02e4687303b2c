"""The guest owner's side: a small Key Broker Service and the tools that feed it."""
