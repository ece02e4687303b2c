"""UNLOCK for the pod `web`, whose scratch is on the disk `big`, and its document on `sealed`."""

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ccinit.agent.guest import Guest
from ccinit.agent.phases import storage
from ccinit.agent.phases.attestation import Attested
from ccinit.formats.initdata.guest_config import DebugConfig, Limits
from ccinit.formats.pod.manifest import parse_pod_manifest
from ccinit.kernel.block import BlockDevice
from tests.vm.guest.disks import disk, run


def unlock(
    guest: Guest, volumes: str, disks: Iterable[BlockDevice], attested: Attested
) -> dict[str, Path]:
    """Open scratch and these volumes of the manifest; return what containers would see."""
    Path("/run/ccinit").mkdir(mode=0o711, exist_ok=True)
    manifest = parse_pod_manifest(f"""
version = 1
name = "web"
[[image]]
name = "web"
reference = "registry.example/web@sha256:{"00" * 32}"
ca = "-----BEGIN CERTIFICATE-----"
[[container]]
name = "main"
image = "web"
[[volume]]
name = "scratch"
kind = "scratch"
size_bytes = {disk("big").size_bytes}
profile = "aead-disk"
{volumes}
""")
    configured: Any = SimpleNamespace(
        manifest=manifest,
        config=SimpleNamespace(limits=Limits(), debug=DebugConfig()),
        disks=(disk("big"), *disks, disk("sealed")),
        initdata=disk("sealed"),
    )
    unlocked = run(storage.unlock(guest, configured, attested))
    return {name: Path(path) for name, path in unlocked.volumes.items()}
