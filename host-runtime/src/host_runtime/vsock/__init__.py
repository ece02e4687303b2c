"""A virtio-vsock device in user space, spoken to by QEMU over vhost-user."""
