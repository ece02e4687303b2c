"""What each platform measures of an image, as registered reference values."""
