"""Running the pod's containers: from image and manifest to a supervised process.

`users`, `spec` and `seccomp_profile` decide what a container is, `rootfs` and `secrets` lay out
what it sees, `crun` and `stdio` start it, `container` says when it starts again, and `supervisor`
does all that for one container until it is done.
"""
