"""From a compressed blob to a verified tar, and what its headers say the kernel must show."""
