"""The command `ccinit-runtime`: podman and others call it as they call runc, and get a guest."""
