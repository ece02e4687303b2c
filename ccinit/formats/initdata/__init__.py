"""The measured document and the files in it, read together."""
