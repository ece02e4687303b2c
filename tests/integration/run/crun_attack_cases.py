"""Images that try to get hold of what `crun` has open while it makes a container: for `crun_cases`.

Every number of a descriptor is tried: which ones crun has open depends on its version.
"""

import json
import os
from pathlib import Path

from ccinit.errors import CcinitError
from ccinit.formats.pod.container import Restart
from ccinit.kernel.event_loop import TaskGroup, at_most, sleep
from ccinit.run.workload import BindMount, SecretFile
from ccinit.secret import Secret
from ccinit.values import replace
from tests.vm.guest.containers import (
    IMAGE,
    PYTHON,
    SLEEPER,
    Record,
    container,
    own_cgroup,
    summary,
    supervise,
    supervisor,
    workload,
)

GIVER = """
import os, socket
with socket.socket(socket.AF_UNIX) as given:
    given.connect('\\0{name}')
    socket.send_fds(given, [b'/'], [os.open('/', os.O_RDONLY)])
    given.recv(1)
print(os.path.exists('/proc/self/stat'))
"""
TAKER = """
import os, socket
def tried(call, *arguments, **options):
    try: return call(*arguments, **options)
    except OSError as error: return error.errno
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind('\\0{name}')
    listener.listen()
    print('ready', flush=True)
    given = listener.accept()[0]
    root = socket.recv_fds(given, 1, 1)[1][0]
    for name in ('proc', 'sys', 'dev', 'srv'):
        print(
            name,
            tried(os.rename, name, 'moved', src_dir_fd=root, dst_dir_fd=root),
            tried(os.rmdir, name, dir_fd=root),
            tried(os.mkdir, name, dir_fd=root),
            tried(os.rename, name, 'moved', src_dir_fd=root, dst_dir_fd=root),
            flush=True,
        )
    given.send(b'.')
"""
SIBLINGS = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for flags in (0, 0x8000):
    made = libc.syscall(56, 17 | flags, 0, 0, 0, 0)
    if made == 0: os._exit(0)
    print(made > 0, 0 if made > 0 else ctypes.get_errno(), flush=True)
"""
NUMBERS = range(3, 24)
SHIELDED = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV
PLACES = ("/proc/self/fd/{}", "/proc/self/task/1/fd/{}", "/links/{}")


async def passed_root(work: Path) -> dict[str, object]:
    """Move what is mounted in a root whose container has passed it to another one."""
    name, records, made = own_cgroup(), {}, {}
    async with TaskGroup() as group:
        for one, code in (("taker", TAKER), ("giver", GIVER)):
            of = container(code.format(name=name), name=one, user="0", read_only=False)
            given = workload(
                of,
                work,
                scratch=f"{work}/scratch-{one}",
                run_dir=f"{work}/run-{one}",
                cgroup_path=f"{name}/{one}",
            )
            records[one] = Record()
            made[one] = supervisor(given, work, records[one])
            group.start(made[one].run(), one)
            while one == "taker" and b"ready" not in records[one].stdout:
                await sleep(0.02)
    taken = summary(made["taker"], work, records["taker"])
    return summary(made["giver"], work, records["giver"]) | {"taker": taken}


async def read_only_sources(work: Path) -> dict[str, object]:
    """See whether what a container has read-only is so before `crun` has made it so.

    The kernel takes from a mount whatever flag a change does not name.
    """
    (work / "volume").mkdir()
    (work / "hosts").write_text("the pod's")
    secrets = tuple(
        SecretFile(path=path, mode=0o400, content=Secret(b"the key"), rotates=rotates)
        for path, rotates in (("/run/secrets/key", False), ("/run/rotating/key", True))
    )
    binds = (("volume", "/data", True), ("volume", "/work", False), ("hosts", "/etc/hosts", True))
    given = workload(
        container(SLEEPER),
        work,
        binds=tuple(
            BindMount(source=str(work / source), target=target, read_only=read_only)
            for source, target, read_only in binds
        ),
        secret_files=secrets,
    )
    record = Record()
    made = supervisor(given, work, record)
    async with TaskGroup() as group:
        group.start(made.run(), "container")
        await made.up.wait()
        spec = json.loads((work / "state/bundles/probe/config.json").read_text())
        sources = {
            mount["destination"]: os.statvfs(mount["source"]).f_flag & SHIELDED == SHIELDED
            for mount in spec["mounts"]
            if mount["type"] == "bind"
        }
        await made.stop(0)
    return summary(made, work, record) | {"sources": sources}


async def children_of_pid_1(work: Path) -> dict[str, object]:
    """Have a program that `exec` has started, as a child of PID 1, make it further children."""
    record = Record()
    given = workload(container(SLEEPER), work)
    made = supervisor(given, work, record)
    null, (reader, writer) = os.memfd_create("null"), os.pipe()
    async with TaskGroup() as group:
        group.start(made.run(), "container")
        await made.up.wait()
        program = await made.exec(
            (PYTHON, "-I", "-c", SIBLINGS), stdin=null, stdout=writer, stderr=writer
        )
        await program.wait()
        await made.stop(0)
    for descriptor in (null, writer):
        os.close(descriptor)
    with os.fdopen(reader) as printed:
        return summary(made, work, record) | {"printed": printed.read()}


async def directories(work: Path) -> dict[str, object]:
    """Begin in a directory that crun may have open, by its path and by a link of the image.

    A descriptor of a directory outside the root would lead there (CVE-2024-21626, of runc).
    """
    links = work / "layer/links"
    links.mkdir(parents=True)
    for number in NUMBERS:
        (links / str(number)).symlink_to(f"/proc/self/fd/{number}")
    paths = [place.format(number) for place in PLACES for number in NUMBERS]
    seen: dict[str, object] = {}
    for path in (*paths, "/tmp"):
        given = workload(
            container("import os; print(os.getcwd())"),
            work,
            image=replace(IMAGE, working_dir=path),
            lowers=(str(work / "layer"), "/"),
            scratch=f"{work}/scratch-{len(seen)}",
        )
        report = await supervise(given, work)
        seen[path] = report["stdout"], report["events"]
    return report | {"seen": seen}


async def links(work: Path) -> dict[str, object]:
    """Put links of the image where the kernel's file systems, and a secret, are mounted.

    A mount that follows one out of the root would be made in `outside` (CVE-2019-19921 of runc, and
    CVE-2026-88264 of crun, are of this class).
    """
    outside = work / "outside"
    outside.mkdir()
    inside = "/srv"
    targets = (inside, str(outside), f"../../../../..{outside}", f"/proc/1/root{outside}")
    seen: dict[str, object] = {}
    for place in ("dev", "proc", "sys", "run/secrets"):
        for target in targets:
            layer = work / f"layer-{len(seen)}"
            (layer / place).parent.mkdir(parents=True)
            (layer / place).symlink_to(target)
            secret = SecretFile(path="/run/secrets/key", mode=0o400, content=Secret(b"the key"))
            given = workload(
                container("print(open('/run/secrets/key').read())"),
                work,
                lowers=(str(layer), "/"),
                scratch=f"{work}/scratch-{len(seen)}",
                secret_files=(secret,),
            )
            try:
                report = await supervise(given, work)
                seen[f"{place}: {target}"] = report["stdout"], report["events"]
            except CcinitError as error:
                seen[f"{place}: {target}"] = error.reason
    return report | {"seen": seen, "outside": sorted(path.name for path in outside.iterdir())}


async def moved_volume(work: Path) -> dict[str, object]:
    """Replace the way to a volume of the image by a link, and be started again."""
    outside = work / "outside"
    (outside / "data").mkdir(parents=True)
    (outside / "data/secret").write_text("of the guest")
    code = (
        "import os\n"
        f"os.makedirs('{outside}/data', exist_ok=True)\n"
        "if not os.path.islink('/made'):\n"
        "    print(os.listdir('/made/data'))\n"
        "    open('/made/data/kept', 'w').close()\n"
        "    os.rename('/made', '/moved')\n"
        f"    os.symlink('{outside}', '/made')\n"
        "    raise SystemExit(1)\n"
        f"print(os.listdir('/made/data'), os.listdir('{outside}/data'))\n"
    )
    of = container(code, user="0", read_only=False, restart=Restart.ON_FAILURE)
    given = workload(of, work, image=replace(IMAGE, volumes=("/made/data",)))
    record = Record()
    made = supervisor(given, work, record)
    async with TaskGroup() as group:
        group.start(made.run(), "container")
        async with at_most(30):
            while not made.life.is_final:
                await sleep(0.1)
    return summary(made, work, record)
