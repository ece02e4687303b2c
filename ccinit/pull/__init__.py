"""In-guest pull: from an image reference by digest to mounted, read-only layers."""
