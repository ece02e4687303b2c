"""The command `ccinit-runtime`: podman and others call it as they call runc, and get a guest.

Theory of operation. To an engine a container is one process of this host, here called its *life*;
the guest's QEMU is a child of that process, or of another container's life. To this runtime a
container is also a folder, whose locks say what is alive (`container`), below one root
(`container_store`), and a record, from which its status follows (`container_state`).

    create       what is asked for    `bundle`, `pod_part`, `pod_member`
                 what is given        `operator_config`, `guest_choice`, `container_disks`,
                                      left for its life in a `guest_plan`
                 who becomes it       `life_start` starts a `life`, which is one of two:
                                        `supervisor` boots a guest and is its host (`guest_host`)
                                        `pod_member_process` waits for its pod's (`container_end`)
                 where it counts      `container_cgroup`, by `cgroup_path` and `cgroup`,
                                      or by `scope_unit` and `systemd`
    start, kill  what a life is told  `signals` chooses, `host_requests` takes
    its end      what is left of it   `exit_status`, `pod_log`; for the owner `sealed_logs`

`lifecycle` has the operations in the order of the runtime-spec, `cli` their options.
"""
