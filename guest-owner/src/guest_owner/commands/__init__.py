"""The commands of `guest-owner`, one module for each subject."""
