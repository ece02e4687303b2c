"""From a Kubernetes Pod to a pod.toml: what has a counterpart, and words for what has none."""
