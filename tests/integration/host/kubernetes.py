"""A node of Kubernetes with its control plane, all on one machine, around a containerd of ours.

Everything is in one network namespace, the node's: whoever is there may do anything, so that
nothing has to be enrolled. The kubelet runs where containerd does, on the same folders. Needs root.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.integration.host.containerd import Containerd
from tests.integration.net.namespaces import ip

BINARIES: Final = "CCINIT_KUBERNETES"
"""Names the folder of kubelet, kube-apiserver, kube-scheduler and kubectl, all of 1.20."""

GATEWAY: Final = "10.0.2.2"
"""Of the node, as its pods see it: the address of their bridge."""

_NODE_ADDRESS: Final = "10.9.0.1"
_SECONDS: Final = 300
_START_SECONDS: Final = 240
_POLL_SECONDS: Final = 1.0
_READY: Final = 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'

_KUBECONFIG: Final = """\
apiVersion: v1
kind: Config
clusters: [{name: it, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: anybody, user: {token: anything}}]
contexts: [{name: it, context: {cluster: it, user: anybody}}]
current-context: it
"""
_TOKENS: Final = "anything,anybody,1,system:masters\n"
_KUBELET: Final = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
failSwapOn: false
cgroupDriver: cgroupfs
cgroupsPerQOS: true
cgroupRoot: {cgroup}
enforceNodeAllocatable: []
makeIPTablesUtilChains: false
protectKernelDefaults: true
resolvConf: {folder}/resolv.conf
evictionHard: {{memory.available: 100Mi}}
imageGCHighThresholdPercent: 100
volumePluginDir: {folder}/plugins
"""
_CNI: Final = """\
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0",
 "isGateway": true, "ipam": {"type": "host-local", "dataDir": "FOLDER/addresses",
 "ranges": [[{"subnet": "10.0.2.0/24", "rangeStart": "10.0.2.15", "gateway": "10.0.2.2"}]],
 "routes": [{"dst": "0.0.0.0/0"}]}}]}
"""
# A kubelet would else change the kernel of the machine that the tests run on.
_EXPECTED: Final = {"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}
_PREPARE: Final = """
mount -t tmpfs none /var/log
mount -t tmpfs none /var/lib
mkdir -p "$1"
mount -t tmpfs none "$1"
mount --make-shared "$1"
mount --bind "$1" "/host$1"  # the runtime, on the host's root, enters the pods' networks
openssl genrsa -out "$2" 2048
"""
_RUN_KUBELET: Final = """
while [ "$1" != -- ]; do mount --bind "$1" "/proc/sys/$2"; shift 2; done; shift
exec "$@"
"""


@dataclass(kw_only=True)
class Cluster:
    """The control plane and its one node, in the network namespace of that path.

    `cgroup` has those of all pods.
    """

    network: str
    containerd: Containerd
    cgroup: str
    kubelet: "subprocess.Popen[bytes] | None" = None

    @property
    def folder(self) -> Path:
        """Of all that they write."""
        return self.containerd.folder

    def kubectl(self, *words: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command of kubectl."""
        program = _binaries() / "kubectl"
        entered = ("nsenter", f"--net={self.network}", program)
        command = (*entered, "--kubeconfig", self.folder / "kubeconfig", *words)
        return subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=_SECONDS, check=False
        )

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Make or change an object."""
        done = self.kubectl("apply", "-f", "-", given=json.dumps(manifest))
        assert done.returncode == 0, done.stderr

    def ask(self, pod: str, path: str) -> str:
        """Return what a JSONPath says of a pod, "" if there is none."""
        return self.kubectl("get", "pod", pod, "-o", f"jsonpath={{{path}}}").stdout

    def events(self, pod: str) -> str:
        """Return what was said of a pod."""
        of_pod = ("--field-selector", f"involvedObject.name={pod}")
        return self.kubectl("get", "events", *of_pod, "-o", "jsonpath={.items[*].message}").stdout

    def start_kubelet(self) -> None:
        """Start the kubelet."""
        folder = self.folder
        (folder / "kubelet.yaml").write_text(_KUBELET.format(folder=folder, cgroup=self.cgroup))
        mounts: list[str | Path] = []
        for name, value in _EXPECTED.items():
            stand_in = folder / name.replace("/", "-")
            stand_in.write_text(f"{value}\n")
            mounts += [stand_in, name]
        command = self.containerd.tree.command(
            *("unshare", "--mount", "sh", "-euc", _RUN_KUBELET, "kubelet", *mounts, "--"),
            *(f"/host{_binaries()}/kubelet", "--config", folder / "kubelet.yaml"),
            *("--kubeconfig", folder / "kubeconfig", "--root-dir", folder / "kubelet"),
            *("--cert-dir", folder / "kubelet-tls", "--hostname-override", "node"),
            *("--node-ip", _NODE_ADDRESS, "--container-runtime", "remote"),
            *("--container-runtime-endpoint", f"unix://{folder}/containerd.sock"),
        )
        self.kubelet = _run(folder / "kubelet.log", *command)

    def stop_kubelet(self) -> None:
        """Stop it; pods go on."""
        assert self.kubelet is not None
        self.kubelet.terminate()
        self.kubelet.wait()


@contextmanager
def cluster_of(containerd: Containerd, network: str, cgroup: str) -> Iterator[Cluster]:
    """Give a cluster whose node is that containerd's, in the same network namespace.

    `cgroup` is one that is there for the cgroups of its pods.
    """
    folder = containerd.folder
    for name in ("cni", "plugins"):
        (folder / name).mkdir(exist_ok=True)  # containerd looks for the first, and makes it
    (folder / "cni/pods.conflist").write_text(_CNI.replace("FOLDER", str(folder)))
    (folder / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    (folder / "kubeconfig").write_text(_KUBECONFIG)
    (folder / "tokens").write_text(_TOKENS)
    namespaces = folder / "run/io.containerd.grpc.v1.cri/netns"
    prepare = ("sh", "-euc", _PREPARE, "prepare", namespaces, folder / "accounts.pem")
    subprocess.run(containerd.tree.command(*prepare), check=True, capture_output=True)
    made = Cluster(network=network, containerd=containerd, cgroup=cgroup)
    with ExitStack() as stack:
        for words in _control_plane(folder):
            command = ("nsenter", f"--net={network}", *words)
            process = _run(folder / f"{Path(words[0]).name}.log", *command)
            stack.callback(process.wait)
            stack.callback(process.kill)
        wait_for(lambda: made.kubectl("get", "--raw", "/readyz").returncode == 0)
        made.start_kubelet()
        stack.callback(made.stop_kubelet)
        wait_for(lambda: "True" in made.kubectl("get", "nodes", "-o", _READY).stdout)
        yield made


def make_node(network: str) -> None:
    """Make the links of a node: one of its own, and the bridge of its pods."""
    ip("link set lo up", network)
    for name, address in (("node0", _NODE_ADDRESS), ("cni0", GATEWAY)):
        ip(f"link add {name} type bridge", network)
        ip(f"addr add {address}/24 dev {name}", network)
        ip(f"link set {name} up", network)
    ip("route add default dev node0", network)


def wait_for(holds: Callable[[], bool], seconds: float = _START_SECONDS) -> None:
    """Wait until `holds` does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(_POLL_SECONDS)


def _binaries() -> Path:
    return Path(os.environ[BINARIES])


def _control_plane(folder: Path) -> tuple[tuple[str | Path, ...], ...]:
    account = folder / "accounts.pem"
    return (
        ("/usr/bin/etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync"),
        (
            *(_binaries() / "kube-apiserver", "--etcd-servers", "http://127.0.0.1:2379"),
            *("--cert-dir", folder / "tls", "--token-auth-file", folder / "tokens"),
            *("--authorization-mode", "AlwaysAllow", "--advertise-address", _NODE_ADDRESS),
            *("--service-account-issuer", "https://it", "--service-account-key-file", account),
            *("--service-account-signing-key-file", account),
            # No controller makes accounts here, or takes the first taint from a new node.
            *("--disable-admission-plugins", "ServiceAccount,TaintNodesByCondition"),
            *("--service-cluster-ip-range", "10.10.0.0/24"),
            *("--kubelet-preferred-address-types", "InternalIP"),
        ),
        (
            *(_binaries() / "kube-scheduler", "--kubeconfig", folder / "kubeconfig"),
            *("--leader-elect=false", "--authentication-skip-lookup"),
        ),
    )


def _run(log: Path, *command: str | Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
