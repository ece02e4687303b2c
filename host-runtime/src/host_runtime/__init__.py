"""What the untrusted host runs: launches guests, carries their vsock, speaks the host RPC."""
