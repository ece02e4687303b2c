"""The locked packages: which Debian packages and wheels images are made of, and getting them."""
