"""Who signed an image, and who must have (containers policy.json, cosign, sigstore)."""
