"""Parts of an image that decide what is measured: read, written, hashed."""
