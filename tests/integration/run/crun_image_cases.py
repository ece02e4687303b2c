"""What ordinary images expect, without and with what docs/operations.md says: for `crun_cases`."""

import json
import os
import shutil
import struct
from pathlib import Path

from ccinit.boot.harden import SETTINGS
from ccinit.formats.pod.capability import Capability
from ccinit.kernel.libc import check, libc
from ccinit.kernel.sysctl import write_sysctl
from tests.integration.net.namespaces import CLONE_NEWNET
from tests.vm.guest.containers import container, supervise, workload

ARMED = "/usr/local/bin/armed"
# VFS_CAP_REVISION_2 with the effective bit, and what is permitted (linux/capability.h)
NEEDS_LOW_PORTS = struct.pack("<5I", 0x0200_0001, 1 << 10, 0, 0, 0)
SERVER = """
import json, os, socket, subprocess
def tried(call, *arguments):
    try: call(*arguments)
    except OSError as error: return error.errno
def bind():
    with socket.socket() as port: port.bind(('', 80))
os.mkdir('/tmp/data')
done = {'chown': tried(os.chown, '/tmp/data', 7, 7), 'bind': tried(bind)}
done['armed'] = tried(subprocess.run, ['/usr/local/bin/armed'])
done['setgroups'] = tried(os.setgroups, [7])
done['setgid'], done['setuid'] = tried(os.setgid, 7), tried(os.setuid, 7)
done['rights'] = next(line for line in open('/proc/self/status') if 'CapEff' in line).split()[1]
done['write'] = tried(os.mkdir, '/tmp/data/new')
print(json.dumps(done))
"""
ADVICE = (Capability.CHOWN, Capability.SETGID, Capability.SETUID, Capability.NET_BIND_SERVICE)


async def server_of_user_0(work: Path) -> dict[str, object]:
    """Start as user 0, give files to another user, take a low port, become that user.

    In a network of its own, with the settings that PID 1 makes of it.
    """
    check(libc.unshare(CLONE_NEWNET), "unshare", "network")
    for setting in SETTINGS:
        if setting.name.startswith("net.ipv"):
            write_sysctl(setting.name, setting.value)
    layer = work / "layer"
    place = layer / ARMED.lstrip("/")
    place.parent.mkdir(parents=True)
    shutil.copy("/usr/bin/true", place)
    os.setxattr(place, "security.capability", NEEDS_LOW_PORTS)
    seen: dict[str, object] = {}
    for name, capabilities in (("without", ()), ("with", ADVICE)):
        of = container(SERVER, user="0", read_only=False, capabilities=capabilities)
        given = workload(of, work, lowers=(str(layer), "/"), scratch=f"{work}/scratch-{name}")
        report = await supervise(given, work)
        seen[name] = json.loads(str(report["stdout"])) if report["stdout"] else report["stderr"]
    return report | seen
