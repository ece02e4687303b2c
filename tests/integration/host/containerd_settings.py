"""The settings of a containerd of ours: where it keeps things, and its CRI with our runtime.

containerd 2 reads the form of containerd 1.7, too; what its users write is its own.
"""

from pathlib import Path
from typing import Final

_PLACES: Final = """\
version = {version}
root = "{folder}/containerd"
state = "{folder}/run"
[grpc]
address = "{folder}/containerd.sock"
[debug]
level = "debug"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
"""
_RUNTIME: Final = """\
[plugins."{plugin}".containerd.runtimes.ccinit]
runtime_type = "io.containerd.runc.v2"
pod_annotations = ["org.ccinit.*", "io.katacontainers.config.hypervisor.cc_init_data"]
container_annotations = ["org.ccinit.*"]
[plugins."{plugin}".containerd.runtimes.ccinit.options]
BinaryName = "{program}"
Root = "{folder}/runtimes"
"""
_CRI_1: Final = """\
[plugins."{plugin}"]
sandbox_image = "{pause}"
netns_mounts_under_state_dir = true
[plugins."{plugin}".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
[plugins."{plugin}".containerd]
default_runtime_name = "ccinit"
snapshotter = "native"
"""
_CRI_2: Final = """\
[plugins."io.containerd.cri.v1.images"]
snapshotter = "native"
pinned_images = {{sandbox = "{pause}"}}
[plugins."{plugin}"]
netns_mounts_under_state_dir = true
[plugins."{plugin}".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "{folder}/cni"
[plugins."{plugin}".containerd]
default_runtime_name = "ccinit"
"""


def containerd_settings(major: int, *, folder: Path, pause: str, program: Path) -> str:
    """Return `config.toml`, in the form of that version of containerd.

    Args:
        major: 1 or 2.
        folder: of all that it writes.
        pause: the image of sandboxes.
        program: the runtime's.
    """
    version, plugin, cri = {
        1: (2, "io.containerd.grpc.v1.cri", _CRI_1),
        2: (3, "io.containerd.cri.v1.runtime", _CRI_2),
    }[major]
    return f"{_PLACES}{cri}{_RUNTIME}".format(
        version=version, plugin=plugin, folder=folder, pause=pause, program=program
    )
