"""Administration of the KBS over the network: who may, how they show it, what they may call."""
