"""A folder as `rootfs-builder image` publishes it, with small files in place of real ones."""

import hashlib
import json
from pathlib import Path

from tests.fakes.published.pe_images import kernel_image, uki_image

PROD_LINE = "quiet oops=panic ccinit.carrier=disk"
TEST_LINE = "quiet ccinit.carrier=disk"


def write_built_image(folder: Path, profile: str = "prod", **changes: object) -> Path:
    """Write one image and return its report; `changes` replaces members of the report."""
    folder.mkdir(exist_ok=True)
    line = PROD_LINE if profile == "prod" else TEST_LINE
    uki = uki_image({".cmdline": line.replace("disk", "ram").encode()})
    contents = {
        ".efi": uki,
        ".vmlinuz": kernel_image(),
        ".direct.initrd": f"initrd of {profile}".encode(),
        ".direct.cmdline": line.encode(),
        ".root.erofs": b"root" * 2048,
    }
    files = {}
    for suffix, data in contents.items():
        name = f"ccinit-{profile}{suffix}"
        (folder / name).write_bytes(data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    report = {
        "format": 1,
        "profile": profile,
        "root_hash": "ab" * 32,
        "kernel_version": "6.12.117-1",
        "stub_version": "257.13-1~deb13u1",
        "files": files,
        "locked": True,
        "inputs": "cd" * 32,
        "wheels": ["msgpack-1.2.4-cp313-cp313-manylinux_2_28_x86_64.whl"],
        "packages": {"libc6": "2.41-12", "python3.13": "3.13.5-2"},
        **changes,
    }
    path = folder / f"ccinit-{profile}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path
