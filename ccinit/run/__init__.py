"""Running the pod's containers: from image and manifest to a supervised process.

`user_files`, `users` (in a child), `spec` and `seccomp_profile` decide what a container is;
`rootfs`, `image_volumes`, `secrets` and `shared_namespaces` lay out what it sees; `crun` and
`stdio` start it, `probe` asks whether it works, `container` says when it starts again, and
`supervisor` does all that for one `workload` until it is done. `files` and `debug_environment` are
the owner's ways in.
"""
