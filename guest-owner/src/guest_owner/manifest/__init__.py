"""What `manifest check` says of a pod.toml beyond its form."""
