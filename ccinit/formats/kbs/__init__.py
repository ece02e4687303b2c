"""What the guest and its Key Broker Service say to each other, and what a resource may hold."""
