"""The measured image of a guest: its root, its initrd, its UKI, each from a written list."""
