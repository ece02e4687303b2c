"""The host's end of the host plane: what it may ask of a guest."""
