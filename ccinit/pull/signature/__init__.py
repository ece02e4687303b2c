"""Who signed an image: the child that judges signatures, and how each kind is checked."""
