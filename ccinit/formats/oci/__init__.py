"""Container images: names, manifests, layers and how these are encrypted (OCI image-spec)."""
