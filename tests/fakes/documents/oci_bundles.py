"""Bundles as engines make them, an operator's file, and a document for both."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

from ccinit.formats.initdata.document import parse_initdata
from tests.fakes.documents.guest import CONFIG, POD

INITDATA = "org.ccinit.initdata"
OPERATOR = """\
version = 1
log_folder = "{folder}/sealed"
scratch_folder = "{folder}/scratch"
stop_grace_seconds = 7

[[image]]
name = "prod"
boot = ["--uki", "/srv/prod.efi", "--tee", "tpm", "--tpm", "/srv/tpm", "--network", "open"]

[[image]]
name = "snp"
boot = [
    "--kernel", "/srv/k", "--initrd", "/srv/i", "--command-line", "quiet",
    "--tee", "snp", "--firmware", "/srv/snp.fd", "--cpu-model", "EPYC-Milan",
]
root = "/srv/root.erofs"

[defaults]
image = "prod"

[allow]
annotations = ["initdata", "initdata_file", "image", "memory_mib", "vcpus", "disks"]
folders = ["{folder}/allowed"]
memory_mib = 4096
vcpus = 4
scratch_bytes = 2147483648
"""


def operator_toml(folder: Path = Path("/srv")) -> str:
    """An operator's file that allows every choice."""
    return OPERATOR.format(folder=folder)


def make_document(pod_toml: str = POD) -> bytes:
    """A document that the guest accepts."""
    document = (
        'version = "0.1.0"\nalgorithm = "sha256"\n[data]\n'
        f'"ccinit.toml" = {json.dumps(CONFIG)}\n"pod.toml" = {json.dumps(pod_toml)}\n'
    ).encode()
    assert parse_initdata(document)
    return document


def encode_annotation(document: bytes) -> str:
    """A document as CoCo's tools write it into an annotation."""
    return base64.b64encode(gzip.compress(document)).decode()


def podman_config(**annotations: str) -> dict[str, Any]:
    """The parts of the `config.json` of podman 5.4 that matter here, and some that do not."""
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/pod"],
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "rlimits": [{"type": "RLIMIT_NPROC", "hard": 2**64 - 1, "soft": 2**64 - 1}],
        },
        "root": {"path": "/var/lib/rootfs"},
        "hostname": "host",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "annotations": {"io.podman.annotations.autoremove": "FALSE", **annotations},
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"},
                {"type": "network", "path": "/run/netns/netns-1"},
                {"type": "mount"},
            ],
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO"},
        },
    }
