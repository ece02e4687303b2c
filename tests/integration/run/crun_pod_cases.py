"""Containers whose manifest changes what they may call, and ones that share: for `crun_cases`."""

import json
from pathlib import Path

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
