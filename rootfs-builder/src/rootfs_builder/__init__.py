"""Build what a guest boots: the tools tree, the measured image, container images."""
