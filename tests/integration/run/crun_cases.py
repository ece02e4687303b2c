"""Drives the run room as PID 1 would, in namespaces and a root of its own; prints what happened.

First half, under the tests' Python and in new mount and pid namespaces: make the tools tree the
root. Second half, under the tree's Python 3.13 and still PID 1: run one case by name. No machine
state is changed: all mounts vanish with the namespace, and the cgroup is removed. A machine like
this one may have no cgroup2 controllers and tight limits of its own; so limits are left out here,
and are tested in a guest.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from ccinit.errors import CcinitError
from ccinit.formats.pod.container import Restart
from ccinit.kernel.clock import boottime
from ccinit.kernel.event_loop import TaskGroup, sleep
from ccinit.run import preparation
from ccinit.run.workload import BindMount, SecretFile
from ccinit.secret import Secret
from ccinit.values import replace
from tests.integration.run import crun_attack_cases as attack_cases
from tests.integration.run import crun_entry_cases as entry_cases
from tests.integration.run import crun_image_cases as image_cases
from tests.integration.run import crun_pod_cases as pod_cases
from tests.integration.run import crun_probe_cases as probe_cases
from tests.integration.run import crun_stop_cases as stop_cases
from tests.integration.run.tools_root import enter, unlimited
from tests.vm.guest.containers import (
    PROBE,
    PYTHON,
    SLEEPER,
    Record,
    container,
    remove_own_cgroup,
    run_as_pid1,
    started,
    summary,
    supervise,
    supervisor,
    workload,
)

WORK = Path("/mnt/ccinit")


async def case_probe() -> dict[str, object]:
    """Look at everything from inside."""
    (WORK / "volume").mkdir()
    os.chown(WORK / "volume", 1000, 1000)
    writes = ["/data/x", "/x", "/run/secrets/key", "/proc/sys/kernel/printk"]
    asked = json.dumps([["/run/secrets/key"], writes])
    of = container(PROBE.read_text(), asked, env=(("GREETING", "hello"),))
    given = workload(
        of,
        WORK,
        binds=(BindMount(source=str(WORK / "volume"), target="/data", read_only=False),),
        secret_files=(SecretFile(path="/run/secrets/key", mode=0o400, content=Secret(b"the key")),),
        secret_env=(("TOKEN", "abc"),),
    )
    return await supervise(given, WORK)


async def case_exit_code() -> dict[str, object]:
    """End with a code, after binary output on both streams."""
    code = "import os\nos.write(1, bytes(range(256)))\nos.write(2, b'err')\nos._exit(7)"
    return await supervise(workload(container(code), WORK), WORK)


async def case_much_output() -> dict[str, object]:
    """Write a long line and end at once."""
    code = "import os\nfor _ in range(64): os.write(1, b'x' * 65536)"
    result = await supervise(workload(container(code), WORK), WORK)
    return result | {"stdout": len(str(result["stdout"]))}


async def case_no_program() -> dict[str, object]:
    """Ask for a program that is not there."""
    return await supervise(workload(container("", args=("/no/such/program",)), WORK), WORK)


async def case_unknown_user() -> dict[str, object]:
    """Ask for a user that is not there."""
    try:
        return await supervise(workload(container("pass", user="nobody-here"), WORK), WORK)
    except CcinitError as error:
        return {"reason": error.reason, "run_dir_left": (WORK / "run").exists()}


async def case_named_user() -> dict[str, object]:
    """Run as a user of the image, who is in a further group there; and with a group's name."""
    etc = WORK / "layer/etc"
    etc.mkdir(parents=True)
    (etc / "group").write_text("daemon:x:1:\nfurther:x:77:daemon\nother:x:78:\n")
    code = "import os\nprint(os.getuid(), os.getgid(), os.getgroups(), os.environ['HOME'])"
    seen: dict[str, object] = {}
    for user in ("daemon", "daemon:other"):
        of = container(code, user=user)
        lowers = (str(WORK / "layer"), "/")
        given = workload(of, WORK, lowers=lowers, scratch=f"{WORK}/scratch-{len(seen)}")
        seen[user] = (await supervise(given, WORK))["stdout"]
    return {"seen": seen}


async def case_device_nodes() -> dict[str, object]:
    """Run as root in an image that brings device nodes."""
    layer = WORK / "layer"
    layer.mkdir()
    os.mknod(layer / "mem", 0o20666, os.makedev(1, 1))
    os.mknod(layer / "disk", 0o60666, os.makedev(254, 0))
    os.mknod(layer / "null", 0o20666, os.makedev(1, 3))
    code = (
        "import os\n"
        "for name in ('mem', 'disk', 'null'):\n"
        "    try: os.open('/' + name, os.O_RDONLY); print(name, 'ok')\n"
        "    except OSError as error: print(name, error.errno)\n"
        "try: os.mknod('/tmp/made', 0o20666, os.makedev(1, 3)); print('mknod ok')\n"
        "except OSError as error: print('mknod', error.errno)\n"
    )
    made = {}
    for read_only in (True, False):
        of = container(code, user="0", read_only=read_only)
        given = workload(of, WORK, lowers=(str(layer), "/"), scratch=f"{WORK}/s{int(read_only)}")
        made[f"read_only {read_only}"] = (await supervise(given, WORK))["stdout"]
    return made


async def case_pages() -> dict[str, object]:
    """Look as root at which pages of memory are whose."""
    code = (
        "for name in ('kpagecgroup', 'kpagecount', 'kpageflags'):\n"
        "    with open('/proc/' + name, 'rb', 0) as file: print(name, len(file.read(8)))\n"
    )
    return await supervise(workload(container(code, user="0"), WORK), WORK)


async def case_of_the_guest() -> dict[str, object]:
    """Look as root at what the kernel counts for all, and at the file systems there are."""
    code = (
        "import os\n"
        "for path in ('/sys/kernel/irq', '/proc/fs'): print(path, len(os.listdir(path)))\n"
        "for path in ('/proc/interrupts', '/proc/softirqs'): print(path, len(open(path).read()))\n"
    )
    return await supervise(workload(container(code, user="0"), WORK), WORK)


async def case_image_volumes() -> dict[str, object]:
    """Write to what the image declares as volumes, and beside them."""
    layer = WORK / "layer"
    (layer / "srv/db").mkdir(parents=True)
    (layer / "srv/db/seed").write_text("of the image")
    os.chown(layer / "srv/db", 1000, 1000)
    (layer / "srv/link").symlink_to("/srv/db")
    code = (
        "import os\n"
        "print(open('/srv/db/seed').read())\n"
        "for path in ('/srv/db/new', '/srv/link/too', '/srv/made/x', '/srv/x', '/data/x'):\n"
        "    try: open(path, 'w').write('x'); print(path, 'ok')\n"
        "    except OSError as error: print(path, error.errno)\n"
    )
    (WORK / "volume").mkdir()
    given = workload(
        container(code, user="1000"),
        WORK,
        lowers=(str(layer), "/"),
        binds=(BindMount(source=str(WORK / "volume"), target="/data", read_only=True),),
    )
    image = replace(given.image, volumes=("/srv/link", "/srv/made", "/data"))
    report = await supervise(replace(given, image=image), WORK)
    written = (WORK / "scratch/upper/srv/db").iterdir()
    return report | {"upper": sorted(path.name for path in written)}


async def case_mounts_over_image_volumes() -> dict[str, object]:
    """Write to what the manifest mounts above, below and in the place of the image's volumes."""
    layer = WORK / "layer"
    (layer / "srv/db").mkdir(parents=True)
    (layer / "data").symlink_to("/srv/db")  # a bind there is one below /srv
    (layer / "lib/app/cache").mkdir(parents=True)
    code = (
        "import os\n"
        "for path in ('/data/kept', '/lib/app/kept'): open(path, 'w').write('x')\n"
        "print(open('/keys/key').read(), os.listdir('/lib/app'))\n"
    )
    stores = {"/data": WORK / "data", "/lib/app": WORK / "app"}
    for store in stores.values():
        store.mkdir()
    given = workload(
        container(code, user="0"),
        WORK,
        lowers=(str(layer), "/"),
        binds=tuple(
            BindMount(source=str(store), target=place, read_only=False)
            for place, store in stores.items()
        ),
        secret_files=(
            SecretFile(path="/keys/key", mode=0o400, content=Secret(b"the key"), rotates=True),
        ),
    )
    image = replace(given.image, volumes=("/srv", "/lib/app/cache", "/keys"))
    report = await supervise(replace(given, image=image), WORK)
    written = {place: [one.name for one in store.iterdir()] for place, store in stores.items()}
    return report | written


async def case_stop_signal() -> dict[str, object]:
    """Stop a program that listens to the image's signal and to no other."""
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGQUIT, lambda *_: sys.exit(0))\n" + SLEEPER
    )
    return await stopped(code, 30, stop_signal="SIGQUIT")


async def case_restart() -> dict[str, object]:
    """Fail twice, then succeed; what was written to the root is still there."""
    code = (
        "import os, sys\n"
        "path = '/tmp/count'\n"
        "count = int(open(path).read()) if os.path.exists(path) else 0\n"
        "open(path, 'w').write(str(count + 1))\n"
        "sys.exit(0 if count == 2 else 3)"
    )
    begin = boottime()
    of = container(code, restart=Restart.ON_FAILURE, read_only=False)
    result = await supervise(workload(of, WORK), WORK)
    return result | {"seconds": boottime() - begin}


async def stopped(code: str, grace: float, stop_signal: str = "") -> dict[str, object]:
    """Start, then stop."""
    record = Record()
    async with TaskGroup() as group:
        made = await started(group, WORK, code, record, stop_signal)
        begin = boottime()
        await made.stop(grace)
        seconds = boottime() - begin
    return summary(made, WORK, record) | {"seconds": seconds}


async def case_stop_politely() -> dict[str, object]:
    """Stop a program that listens to SIGTERM."""
    code = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n" + SLEEPER
    return await stopped(code, 30)


async def case_stop_deaf() -> dict[str, object]:
    """Stop a program that does not, and its child."""
    return await stopped("import os\nos.fork()\n" + SLEEPER, 0.3)


async def case_stop_in_pause() -> dict[str, object]:
    """Stop a container that waits for its next attempt."""
    record = Record()
    of = container("raise SystemExit(1)", restart=Restart.ALWAYS)
    made = supervisor(workload(of, WORK), WORK, record)
    async with TaskGroup() as group:
        group.start(made.run(), "container")
        while not record.events:
            await sleep(0.02)
        begin = boottime()
        await made.stop(30)
        seconds = boottime() - begin
    return summary(made, WORK, record) | {"seconds": seconds}


async def case_cancel() -> dict[str, object]:
    """End the task that supervises, as a failing phase does."""
    record = Record()
    async with TaskGroup() as group:
        made = await started(group, WORK, SLEEPER, record)
        group.cancel()
    return summary(made, WORK, record)


CASES: dict[str, Callable[[], Awaitable[dict[str, object]]]] = {
    name.removeprefix("case_"): value
    for name, value in list(globals().items())
    if name.startswith("case_")
} | {
    case.__name__.removeprefix("case_"): partial(case, WORK)
    for case in (
        attack_cases.children_of_pid_1,
        attack_cases.directories,
        attack_cases.links,
        attack_cases.moved_volume,
        attack_cases.passed_root,
        attack_cases.read_only_sources,
        entry_cases.case_exec,
        entry_cases.case_exec_on_terminal,
        entry_cases.case_files,
        entry_cases.case_rotate,
        entry_cases.case_debug,
        probe_cases.ready,
        probe_cases.never_ready,
        probe_cases.alive,
        probe_cases.capabilities,
        image_cases.server_of_user_0,
        pod_cases.seccomp,
        pod_cases.network_rights,
        stop_cases.stopped_exec,
        stop_cases.refused_exec,
        stop_cases.refused_supervisor,
        stop_cases.stopped_supervisor,
    )
}


def main() -> None:
    """Run one case as PID 1."""
    if len(sys.argv) == 4:
        enter(Path(sys.argv[1]), {"/opt": Path(sys.argv[2])})
        os.execve(
            PYTHON,
            [PYTHON, "-m", "tests.integration.run.crun_cases", sys.argv[3]],
            {"PYTHONPATH": "/opt", "PYTHONDONTWRITEBYTECODE": "1"},
        )
    preparation.plan_spec = unlimited  # type: ignore[attr-defined]
    WORK.mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    result = run_as_pid1(CASES[sys.argv[1]])
    remove_own_cgroup()
    result["null_owner"] = Path("/dev/null").stat().st_uid
    result["fds_left"] = len(list(Path("/proc/self/fd").iterdir())) - before
    print(json.dumps(result))


if __name__ == "__main__":
    main()
