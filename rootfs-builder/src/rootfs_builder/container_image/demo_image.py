"""The demo's container image, made of Debian packages; tests build, pull and run it, too.

A small network service, run by Debian's python3 as its own user: it answers HTTP, reads a secret
file, keeps a counter on a volume and prints a line for each request. Its three layers have the
three compressions that image-spec v1.1 names; the uppermost removes files of the lower ones, by
whiteouts of both kinds. apt resolves and verifies the packages in the tools tree, but none of them
is executed. The same packages give the same image, bit for bit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from rootfs_builder.container_image.build import pack_layer
from rootfs_builder.container_image.debian_root import (
    extract_packages,
    fetch_packages,
    settle_certificates,
    settle_users,
)
from rootfs_builder.container_image.layer_tar import TarSource, tar_entries, tar_tree
from rootfs_builder.container_image.oci_layout import (
    ContainerImage,
    placing,
    require_absent,
    write_layout,
)
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import ToolsTree

PACKAGES: Final = (
    "bash",  # for the owner's exec
    "ca-certificates",
    "coreutils",
    "media-types",
    "netbase",
    "openssl",
    "perl",  # its package has hard links
    "python3",
    "tzdata",
)
SERVICE_UID: Final = 10001
SERVICE_PORT: Final = 8080

_SERVICE: Final = '''\
"""Answers every GET with what a pod's workload can show: a count, and that it has its secret.

COUNTER is a file on a volume, SECRET_FILE a secret of the pod; either may be absent.
"""

import hashlib
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


def count() -> int:
    """Add one to the number in the counter file."""
    path = os.environ.get("COUNTER", "/data/counter")
    try:
        with open(path) as file:
            number = int(file.read())
    except FileNotFoundError:
        number = 0
    with open(path + ".new", "w") as file:
        file.write(str(number + 1))
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)
    return number + 1


def secret_digest() -> str:
    """Return the SHA-256 of the secret, or an empty text without one."""
    try:
        with open(os.environ.get("SECRET_FILE", "/run/secrets/token"), "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError:
        return ""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server_version = "counter"

    def do_GET(self) -> None:
        number = count()
        print(f"counter: count={number}", flush=True)
        answer = {"count": number, "secret_sha256": secret_digest(), "uid": os.getuid()}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form: str, *values: object) -> None:
        print("counter:", form % values, flush=True)


def stop(*_details: object) -> None:
    print("counter: stopped", flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
port = int(sys.argv[1])
print(f"counter: listening on {port}, secret_sha256={secret_digest()}", flush=True)
HTTPServer(("0.0.0.0", port), Handler).serve_forever()
'''


def build_demo_image(
    tools: ToolsTree, packages: Path, layout: Path, progress: Progress
) -> ContainerImage:
    """Make the image.

    Args:
        tools: runs apt, dpkg-deb and zstd.
        packages: folder that keeps downloaded packages for the next time.
        layout: the OCI layout directory to write; it must not exist.
        progress: where to say what takes time.

    Raises:
        ConfigError: a tool failed; `image.exists`.
    """
    require_absent(layout)
    progress.say("fetching packages")
    files = fetch_packages(tools, packages, PACKAGES)
    with placing(layout) as partial:
        root = partial.with_name("root")
        root.mkdir()
        progress.say(f"unpacking {len(files)} packages")
        extract_packages(tools, files, root)
        settle_users(
            root,
            f"service:x:{SERVICE_UID}:{SERVICE_UID}::/srv:/usr/sbin/nologin\n",
            f"service:x:{SERVICE_UID}:\n",
        )
        settle_certificates(root)
        base = tar_tree(root)
        service = tar_entries(_service_entries(root))
        removal = tar_entries(_removal_entries())
        progress.say("packing the layers")
        layers = (
            pack_layer(tools, base, "gzip"),
            pack_layer(tools, service, "zstd"),
            pack_layer(tools, removal, "none"),
        )
        image = write_layout(layers, _service_config(), partial)
    return replace(image, layout=layout)


def _service_entries(root: Path) -> Iterator[TarSource]:
    """The second layer; `etc` is not described, so it stays as the first has it."""
    yield TarSource(path="srv", content=None, mode=0o755)
    yield TarSource(path="srv/service.py", content=_SERVICE.encode(), mode=0o755)
    yield TarSource(path="srv/counter", hard_link="srv/service.py")
    yield TarSource(path="data", content=None, mode=0o750, owner=SERVICE_UID)
    yield TarSource(path="data/.keep", owner=SERVICE_UID)
    release = (root / "etc/debian_version").read_text().strip()
    yield TarSource(path="etc/service-release", content=f"counter on Debian {release}\n".encode())


def _removal_entries() -> Iterator[TarSource]:
    """The third layer, which removes a file, a directory, and a directory's old content."""
    yield TarSource(path="etc/.wh.debian_version")
    yield TarSource(path="usr/share/.wh.doc")
    yield TarSource(path="usr/share/lintian", content=None, mode=0o755)
    yield TarSource(path="usr/share/lintian/.wh..wh..opq")
    yield TarSource(path="usr/share/lintian/NOTE", content=b"removed from this image\n")


def _service_config() -> Mapping[str, object]:
    return {
        "User": "service",
        "ExposedPorts": {f"{SERVICE_PORT}/tcp": {}},
        "Env": ["PATH=/usr/bin:/usr/sbin", "LANG=C.UTF-8", "COUNTER=/data/counter"],
        "Entrypoint": ["/usr/bin/python3", "-I", "/srv/service.py"],
        "Cmd": [str(SERVICE_PORT)],
        "WorkingDir": "/srv",
    }
