"""The runtime spec: what of image and manifest counts (R70), and what is always the same."""

import pytest

from ccinit.errors import CcinitError, ConfigError, FormatError, LimitExceededError
from ccinit.formats.pod.capability import Capability
from ccinit.formats.pod.container import Resources
from ccinit.formats.pod.seccomp import Seccomp
from ccinit.run.seccomp_profile import workload_seccomp
from ccinit.run.shared_namespaces import SharedNamespaces
from ccinit.run.spec import (
    plan_arguments,
    plan_cwd,
    plan_exec,
)
from ccinit.run.workload import BindMount
from ccinit.values import replace
from tests.fakes.documents.containers import CONTAINER, IMAGE
from tests.unit.ccinit.run.workloads import changed, plan


def test_spec_gives_no_right_to_anything() -> None:
    process = plan()["process"]
    assert set(process["capabilities"]) == {
        *("bounding", "effective", "inheritable", "permitted", "ambient"),
    }
    assert not any(process["capabilities"].values())
    some = changed(container=replace(CONTAINER, capabilities=(Capability.CHOWN,)))
    given = plan(some)["process"]
    assert given["capabilities"] == {key: ["CAP_CHOWN"] for key in process["capabilities"]}
    assert process["noNewPrivileges"] is True
    assert process["terminal"] is False
    assert process["oomScoreAdj"] == 0
    changes = Seccomp(allow=("perf_event_open",))
    linux = plan(changed(container=replace(CONTAINER, seccomp=changes)))["linux"]
    assert linux["seccomp"] == workload_seccomp(changes) != plan()["linux"]["seccomp"]


def test_spec_has_all_namespaces_but_the_network() -> None:
    namespaces = plan()["linux"]["namespaces"]
    assert namespaces == [{"type": name} for name in ("pid", "mount", "ipc", "uts", "cgroup")]


def test_spec_joins_what_the_pod_shares_and_nothing_else() -> None:
    shared = SharedNamespaces(ipc="/run/ipc", shm="/run/shm", process="/run/process")
    spec, alone = plan(changed(shared=shared)), plan()
    assert spec["linux"].pop("namespaces") == [
        {"type": "pid", "path": "/run/process"},
        {"type": "mount"},
        {"type": "ipc", "path": "/run/ipc"},
        {"type": "uts"},
        {"type": "cgroup"},
    ]
    del alone["linux"]["namespaces"]
    mounts, own = spec.pop("mounts"), alone.pop("mounts")
    differing = [pair for pair in zip(mounts, own, strict=True) if pair[0] != pair[1]]
    assert [before["destination"] for _, before in differing] == ["/dev/shm"]
    assert differing[0][0] == {
        "destination": "/dev/shm",
        "type": "bind",
        "source": "/run/shm",
        "options": ["bind", "private", "nosuid", "noexec", "nodev", "rw"],
    }
    assert spec == alone


def test_spec_joins_processes_without_ipc() -> None:
    spec = plan(changed(shared=SharedNamespaces(process="/run/process")))
    paths = {one["type"]: one.get("path") for one in spec["linux"]["namespaces"]}
    assert (paths["pid"], paths["ipc"]) == ("/run/process", None)
    assert spec["mounts"] == plan()["mounts"]


def test_spec_names_identity_root_and_place() -> None:
    spec = plan()
    assert spec["process"]["user"] == {
        "uid": 1000,
        "gid": 100,
        "additionalGids": [44],
        "umask": 0o022,
    }
    assert spec["root"] == {"path": "/run/root", "readonly": True}
    assert (spec["hostname"], spec["linux"]["cgroupsPath"]) == ("pod", "/pod/web")
    writable = changed(container=replace(CONTAINER, read_only=False))
    assert plan(writable)["root"]["readonly"] is False


def test_spec_has_fresh_kernel_file_systems() -> None:
    mounts = {mount["destination"]: mount for mount in plan()["mounts"]}
    assert mounts["/dev"]["type"] == "tmpfs"
    assert mounts["/proc"]["type"] == "proc"
    assert "ro" in mounts["/sys"]["options"]
    assert "ro" in mounts["/sys/fs/cgroup"]["options"]
    for mount in mounts.values():
        assert "nosuid" in mount["options"]


def test_spec_hides_what_the_kernel_tells_of_the_machine() -> None:
    spec = plan()
    assert spec["ociVersion"].split(".")[0] == "1"
    linux = spec["linux"]
    hidden = {"/proc/kcore", "/proc/keys", "/proc/kpageflags", "/proc/timer_list", "/sys/firmware"}
    assert hidden <= set(linux["maskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"} <= set(
        linux["readonlyPaths"]
    )
    assert linux["rootfsPropagation"] == "private"


def test_spec_leaves_no_core_behind() -> None:
    limits = {limit.pop("type"): limit for limit in plan()["process"]["rlimits"]}
    assert limits["RLIMIT_CORE"] == {"soft": 0, "hard": 0}


def test_spec_limits_nothing_that_the_kernel_counts_by_user() -> None:
    limits = {limit.pop("type"): limit for limit in plan()["process"]["rlimits"]}
    most = (1 << 63) - 1
    by_user = {"RLIMIT_NPROC": 1 << 22, "RLIMIT_SIGPENDING": most, "RLIMIT_MSGQUEUE": most}
    assert limits.keys() == {"RLIMIT_NOFILE", "RLIMIT_CORE", *by_user}
    for name, value in by_user.items():
        assert limits[name] == {"soft": value, "hard": value}


def test_spec_gives_each_container_terminals_of_its_own() -> None:
    (terminals,) = (one for one in plan()["mounts"] if one["destination"] == "/dev/pts")
    assert {"newinstance", "max=256"} <= set(terminals["options"])


def test_spec_puts_binds_behind_the_kernel_mounts_and_parents_first() -> None:
    binds = (
        BindMount(source="/a", target="/data/inner/x", read_only=True),
        BindMount(source="/b", target="/data", read_only=False),
        BindMount(source="/c", target="/data-other", read_only=False),
        BindMount(source="/d", target="/data/inner", read_only=False),
    )
    mounts = plan(changed(binds=binds))["mounts"]
    targets = [mount["destination"] for mount in mounts]
    assert targets[:2] == ["/proc", "/dev"]
    order = [target for target in targets if target.startswith("/data")]
    assert order == ["/data", "/data/inner", "/data/inner/x", "/data-other"]
    options = {mount["destination"]: mount["options"] for mount in mounts}
    assert options["/data"] == ["bind", "private", "nosuid", "nodev", "rw"]
    assert options["/data/inner/x"][-1] == "ro"


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "relative",
        "/a/../b",
        "/a/./b",
        "/a//b",
        "/a/",
        "/proc",
        "/proc/self",
        "/sys/kernel",
        "/dev/shm",
        "",
    ],
)
def test_spec_with_a_mount_in_a_wrong_place_is_refused(target: str) -> None:
    plan(changed(binds=(BindMount(source="/a", target="/processes", read_only=True),)))
    with pytest.raises(FormatError) as error:
        plan(changed(binds=(BindMount(source="/a", target=target, read_only=True),)))
    assert error.value.reason == "run.mount"


@pytest.mark.parametrize("longest", ["/" + "x" * 255, "/xxxx" * 819])
def test_spec_with_a_mount_at_a_path_that_linux_does_not_take_is_refused(longest: str) -> None:
    plan(changed(binds=(BindMount(source="/a", target=longest, read_only=True),)))
    with pytest.raises(LimitExceededError) as error:
        plan(changed(binds=(BindMount(source="/a", target=f"{longest}x", read_only=True),)))
    assert error.value.reason == "run.mount"


def test_spec_with_two_mounts_in_one_place_is_refused() -> None:
    bind = BindMount(source="/a", target="/data", read_only=True)
    with pytest.raises(FormatError) as error:
        plan(changed(binds=(bind, bind)))
    assert error.value.reason == "run.mount"


def test_r70_binds_of_the_manifest_go_over_the_images_volumes_wherever_they_are() -> None:
    volumes = tuple(
        BindMount(source=f"/root{place}", target=place, read_only=False)
        for place in ("/srv/db", "/data/cache", "/srv")
    )
    binds = (
        BindMount(source="/a", target="/data", read_only=True),
        BindMount(source="/b", target="/srv/db", read_only=True),
    )
    mounts = plan(changed(binds=binds[:1]), image_volumes=volumes, secrets=binds[1:])["mounts"]
    order = [mount["source"] for mount in mounts if mount["type"] == "bind"]
    assert order == ["/root/data/cache", "/root/srv", "/root/srv/db", "/a", "/b"]


def test_spec_limits_are_the_manifests_or_the_defaults() -> None:
    assert plan()["linux"]["resources"] == {
        "devices": [{"allow": False, "access": "rwm"}],
        "pids": {"limit": 4096},
        "unified": {"memory.oom.group": "1"},
    }
    wanted = Resources(memory_bytes=(64 << 20) + 5, pids=7, cpu_milli=250)
    resources = plan(changed(container=replace(CONTAINER, resources=wanted)))["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 << 20, "swap": 64 << 20}
    assert resources["pids"] == {"limit": 7}
    assert resources["cpu"] == {"quota": 25_000, "period": 100_000}
    assert resources["unified"] == {"memory.oom.group": "1"}
    files = {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 524_288}
    assert plan()["process"]["rlimits"][0] == files


@pytest.mark.parametrize(
    ("args", "entrypoint", "cmd", "expected"),
    [
        ((), ("/entry",), ("one",), ("/entry", "one")),
        ((), (), ("/cmd",), ("/cmd",)),
        ((), ("/entry",), (), ("/entry",)),
        (("/mine", ""), ("/entry",), ("one",), ("/mine", "")),
    ],
)
def test_arguments_are_the_manifests_or_the_images(
    args: tuple[str, ...],
    entrypoint: tuple[str, ...],
    cmd: tuple[str, ...],
    expected: tuple[str, ...],
) -> None:
    image = replace(IMAGE, entrypoint=entrypoint, cmd=cmd)
    assert plan_arguments(replace(CONTAINER, args=args), image) == expected


@pytest.mark.parametrize(
    "args", [(), ("",), ("x", "a\0b"), ("x", "x" * (128 << 10)), ("x",) * 1025], ids=range(5)
)
def test_arguments_absent_or_impossible_are_refused(args: tuple[str, ...]) -> None:
    most = ("x" * ((128 << 10) - 1),) * 1024
    assert plan_arguments(replace(CONTAINER, args=most), IMAGE) == most
    with pytest.raises(CcinitError) as error:
        plan_arguments(replace(CONTAINER, args=args), replace(IMAGE, entrypoint=(), cmd=()))
    assert error.value.reason == "run.args"


@pytest.mark.parametrize(
    ("manifest", "image", "expected"),
    [
        (None, "", "/"),
        (None, "/srv/", "/srv"),
        (None, "//srv//x/./y", "/srv/x/y"),
        ("/mine", "/srv", "/mine"),
    ],
)
def test_cwd_is_the_manifests_or_the_images(
    manifest: str | None, image: str, expected: str
) -> None:
    cwd = plan_cwd(replace(CONTAINER, cwd=manifest), replace(IMAGE, working_dir=image))
    assert cwd == expected


@pytest.mark.parametrize("image", ["srv", "/srv/../../etc", "..", "/a\0b"])
def test_cwd_not_absolute_or_climbing_is_refused(image: str) -> None:
    with pytest.raises(CcinitError) as error:
        plan_cwd(CONTAINER, replace(IMAGE, working_dir=image))
    assert error.value.reason == "run.cwd"


def test_exec_differs_in_its_command_only() -> None:
    spec = plan()
    process = plan_exec(spec, ("/bin/id", "-u"))
    assert process["args"] == ["/bin/id", "-u"]
    original = spec["process"]
    assert original["cwd"] == "/srv"
    assert {name: process[name] for name in process if name != "args"} == {
        name: original[name] for name in original if name != "args"
    }
    assert original["args"] == ["/entry", "one", "two"]
    for nothing in ((), ("",)):
        with pytest.raises(ConfigError) as error:
            plan_exec(spec, nothing)
        assert error.value.reason == "run.args"


@pytest.mark.parametrize(("said", "kind"), [((), "xterm"), ((("TERM", "linux"),), "linux")])
def test_exec_on_a_terminal_has_its_size_and_says_of_which_kind_unless_the_container_does(
    said: tuple[tuple[str, str], ...], kind: str
) -> None:
    spec = plan(changed(container=replace(CONTAINER, env=said)))

    def kinds(process: dict[str, object]) -> list[str]:
        environment = process["env"]
        assert isinstance(environment, list)
        return [text for text in environment if text.startswith("TERM=")]

    process = plan_exec(spec, ("/bin/vi",), (24, 80))
    assert process["terminal"] is True
    assert process["consoleSize"] == {"height": 24, "width": 80}
    assert kinds(process) == [f"TERM={kind}"]
    assert process["env"] == spec["process"]["env"] + ([] if said else ["TERM=xterm"])
    without = plan_exec(spec, ("/bin/vi",))
    assert (without["terminal"], "consoleSize" in without) == (False, False)
    assert kinds(without) == [f"TERM={value}" for _, value in said]
