"""Running the pod's containers: from image and manifest to a supervised process.

`user_files`, `users` (in a child), `spec` and `seccomp_profile` decide what a container is;
`rootfs`, `image_volumes`, `secrets`, `sources` and `shared_namespaces` make what it sees, in the
order of `preparation`; `crun` and `stdio` start it, `probe` checks whether it works, `container`
decides when it is restarted, and `supervisor` does all that for one `workload` until it is done.
Through `files` and `debug_environment` the owner gets in.
"""
