"""Runtime measurement: registers that the guest extends, and what it binds to them."""
