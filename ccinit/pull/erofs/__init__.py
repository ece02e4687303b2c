"""From a verified tar to a file system: making it in a sandbox, and walking what is mounted."""
