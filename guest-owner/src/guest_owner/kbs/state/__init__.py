"""The owner's state directory: what is registered, stored and counted, and who may change it."""
