"""Container images for pods: built, encrypted, signed and pushed, in OCI's and CoCo's forms."""
