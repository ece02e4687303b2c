"""Containers whose manifest changes what they may call, and ones that share: for `crun_cases`."""

import json
from pathlib import Path

from ccinit.formats.pod.capability import Capability
from ccinit.formats.pod.seccomp import Seccomp
from tests.vm.guest.containers import container, supervise, workload

CALLS = (
    "import ctypes, errno, json, os\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "libc.syscall.restype = ctypes.c_long\n"
    "def call(number, *arguments):\n"
    "    converted = [ctypes.c_long(one) if type(one) is int else one for one in arguments]\n"
    "    result = libc.syscall(ctypes.c_long(number), *converted)\n"
    "    return errno.errorcode[ctypes.get_errno()] if result < 0 else 'ok'\n"
    "file, large = os.memfd_create('file'), ctypes.create_string_buffer(4097)\n"
    "empty = ctypes.create_string_buffer(256)\n"
    "print(json.dumps({\n"
    "    'adjtimex': call(159, empty),\n"
    "    'name_to_handle_at': call(303, -100, b'/', empty, empty, 0),\n"
    "    'chmod': call(90, b'/none', 0),\n"
    "    'inet': call(41, 2, 1, 0),\n"
    "    'vsock': call(41, 40, 1, 0),\n"
    "    'mount': call(165, 0, 0, 0, 0, 0),\n"
    "    'attribute': call(190, file, b'user.x', large, 4096, 0),\n"
    "    'large attribute': call(190, file, b'user.x', large, 4097, 0),\n"
    "    'clone3': call(435, 0, 0),\n"
    "    'getpid': call(39),\n"
    "    'statfs': call(137, b'/', empty),\n"
    "    'ustat': call(136, os.stat('/').st_dev, empty),\n"
    "}))"
)


async def seccomp(work: Path) -> dict[str, object]:
    """Make the same calls under the default profile, and under ones that differ from it."""
    found: dict[str, object] = {}
    for name, changes in (
        ("default", Seccomp()),
        ("allow", Seccomp(allow=("adjtimex", "name_to_handle_at", "getpid"))),
        ("deny", Seccomp(deny=("chmod", "socket", "mount", "clone3"))),
    ):
        given = workload(container(CALLS, seccomp=changes), work, scratch=f"{work}/{name}")
        report = await supervise(given, work)
        assert (report["stderr"], report["crun"]) == ("", "")
        found[name] = json.loads(str(report["stdout"]))
    return found


NETWORK_CALLS = (
    "import ctypes, errno, json\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "def call(number, *arguments):\n"
    "    result = libc.syscall(number, *map(ctypes.c_ulong, arguments))\n"
    "    return errno.errorcode[ctypes.get_errno()] if result < 0 else 'ok'\n"
    "def option(level, name): return call(54, -1, level, name, 0, 0)\n"
    "def tell(answers):\n"
    "    table = {}\n"
    "    for key, answer in answers: table.setdefault(answer, []).append(key)\n"
    "    return table\n"
    "high = (1 << 32) + 6\n"
    "print(json.dumps({\n"
    "    'raw': tell((n, call(41, 2, 3, n)) for n in (*range(1, 256), 512, high)),\n"
    "    'raw6': tell((n, call(41, 10, 3 | 0o2000000, n)) for n in range(1, 256)),\n"
    "    'types': tell((n, call(41, 2, n, 0)) for n in range(16)),\n"
    "    'levels': tell((n, option(n, 19)) for n in (*range(600), high)),\n"
    "    'options': tell((n, option(6, n)) for n in (*range(300), (1 << 32) + 19)),\n"
    "}))"
)


async def network_rights(work: Path) -> dict[str, object]:
    """Reach for the neighbours' connections with all rights over the network there are."""
    rights = (Capability.NET_ADMIN, Capability.NET_RAW)
    report = await supervise(workload(container(NETWORK_CALLS, capabilities=rights), work), work)
    assert (report["stderr"], report["crun"]) == ("", "")
    seen: dict[str, object] = json.loads(str(report["stdout"]))
    return report | seen
