"""A real container image made of Debian packages: the demo's and the tests' workload.

A small network service, run by Debian's python3 as its own user: it answers HTTP, reads a secret
file, counts on a volume and prints a line for each request. Its three layers have the three
compressions that image-spec v1.1 names; the uppermost takes away what the ones below brought, by
whiteouts of both kinds. apt resolves and verifies the packages in the tools tree, nothing of them
is executed. The same packages give the same image, bit for bit. Pushing is skopeo's part.
"""

import argparse
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from rootfs_builder.oci_layout import (
    EPOCH,
    LAYER_TYPE,
    TAG,
    ContainerImage,
    ImageLayer,
    TarSource,
    tar_entries,
    tar_tree,
    write_layout,
)
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import ToolsTree

PACKAGES: Final = (
    "base-files",
    "base-passwd",
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
_MAX_PUSH_SECONDS: Final = 600

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


def build_container_image(
    tools: ToolsTree, packages: Path, layout: Path, progress: Progress
) -> ContainerImage:
    """Make the image.

    Args:
        tools: runs apt, dpkg-deb and zstd.
        packages: folder that keeps downloaded packages for the next time.
        layout: the OCI layout directory to write; an older one is replaced.
        progress: told what takes time.

    Raises:
        ConfigError: a tool failed.
    """
    progress.say("container image: fetching packages")
    files = fetch_packages(tools, packages)
    work = layout.with_name(f"{layout.name}.partial")
    _remove(work)
    try:
        root = work / "root"
        root.mkdir(parents=True)
        progress.say(f"container image: unpacking {len(files)} packages")
        extract_packages(tools, files, root)
        _add_users(root)
        base = tar_tree(root)
        service = tar_entries(_service_entries(root))
        removal = tar_entries(_removal_entries())
        progress.say("container image: packing the layers")
        layers = (
            _pack(tools, base, "gzip"),
            _pack(tools, service, "zstd"),
            _pack(tools, removal, ""),
        )
        image = write_layout(layers, _service_config(), work / "layout")
        _remove(layout)
        image.layout.rename(layout)
    finally:
        _remove(work)
    return ContainerImage(layout=layout, digest=image.digest, bytes=image.bytes)


def fetch_packages(tools: ToolsTree, directory: Path) -> tuple[Path, ...]:
    """Return the files of `PACKAGES` and all they depend on, sorted by name.

    apt gets an empty status file, so that what the tools tree happens to hold does not count.
    """
    for name in ("lists/partial", "archives/partial"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    status = directory / "status"
    status.write_text("")
    options = (
        *("-o", f"Dir::State::lists={directory / 'lists'}"),
        *("-o", f"Dir::State::status={status}"),
        *("-o", f"Dir::Cache::archives={directory / 'archives'}"),
        *("-o", f"Dir::Cache::pkgcache={directory / 'pkgcache.bin'}"),
        *("-o", f"Dir::Cache::srcpkgcache={directory / 'srcpkgcache.bin'}"),
        *("-o", "APT::Install-Recommends=false", "-o", "APT::Sandbox::User=root", "-y", "-q"),
    )

    def apt(*arguments: str) -> str:
        return tools.run(("apt-get", *options, *arguments), directories=(directory,)).decode()

    try:
        apt("install", "--download-only", *PACKAGES)
    except ConfigError:  # no lists yet, or the archive has moved on since they were fetched
        apt("update")
        apt("install", "--download-only", *PACKAGES)
    wanted: list[Path] = []
    for line in apt("install", "--simulate", *PACKAGES).splitlines():
        action, _blank, rest = line.partition(" ")
        if action == "Inst":
            name, _blank, details = rest.partition(" ")
            version = details.lstrip("(").partition(" ")[0].replace(":", "%3a")
            wanted += (directory / "archives").glob(f"{name}_{version}_*.deb")
    if not wanted:
        raise ConfigError("container_image.packages", "apt resolved no package")
    return tuple(sorted(wanted))


def extract_packages(tools: ToolsTree, files: Iterable[Path], root: Path) -> None:
    """Unpack packages over each other; their maintainer scripts do not run."""
    files = tuple(files)
    loop = 'root=$1; shift; for file; do dpkg-deb --extract "$file" "$root"; done'
    folders = tuple(sorted({file.parent for file in files}))
    tools.run(("sh", "-euc", loop, "extract", root, *files), directories=(*folders, root))


def _add_users(root: Path) -> None:
    """Do what base-passwd's and ca-certificates' scripts would do, and add the service's user."""
    share = root / "usr/share/base-passwd"
    users = (share / "passwd.master").read_text().replace(":*:", ":x:")
    groups = (share / "group.master").read_text().replace(":*:", ":x:")
    (root / "etc/passwd").write_text(
        f"{users}service:x:{SERVICE_UID}:{SERVICE_UID}::/srv:/usr/sbin/nologin\n"
    )
    (root / "etc/group").write_text(f"{groups}service:x:{SERVICE_UID}:\n")
    authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(path.read_text() for path in authorities))
    for path in (root / "etc/passwd", root / "etc/group", bundle):
        os.utime(path, (EPOCH, EPOCH))


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
    """The third layer: a file, a directory, and a directory's old content are taken away."""
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


def _pack(tools: ToolsTree, tar: bytes, compression: str) -> ImageLayer:
    commands = {
        "gzip": ("gzip", "-n", "-6"),
        "zstd": ("zstd", "-q", "-c", "-10", "--single-thread"),
    }
    blob = tools.run(commands[compression], input_data=tar) if compression else tar
    return ImageLayer(
        media_type=f"{LAYER_TYPE}+{compression}" if compression else LAYER_TYPE,
        blob=blob,
        diff_id=f"sha256:{hashlib.sha256(tar).hexdigest()}",
    )


def push_container_image(
    tools: ToolsTree, image: ContainerImage, repository: str, ca: Path, credential: str = ""
) -> str:
    """Push an image byte for byte and return its reference, `host[:port]/repository@sha256:…`.

    Args:
        tools: runs skopeo.
        image: what to push.
        repository: `host[:port]/repository`.
        ca: PEM file of the registry's certificate authority, named `*.crt`, alone in its folder.
        credential: `user:password`, or empty.

    Raises:
        ConfigError: skopeo failed.
    """
    login = ("--dest-creds", credential) if credential else ()
    tools.run(
        (
            *("skopeo", f"--command-timeout={_MAX_PUSH_SECONDS}s", "copy", "--quiet"),
            *("--insecure-policy", "--preserve-digests"),
            *("--dest-cert-dir", ca.parent, *login),
            *(f"oci:{image.layout}:{TAG}", f"docker://{repository}:{TAG}"),
        ),
        directories=(image.layout, ca.parent),
    )
    return f"{repository}@{image.digest}"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `container-image` command."""
    parser = subparsers.add_parser(
        "container-image", help="make the demo's container image from Debian packages"
    )
    parser.add_argument("layout", type=Path, help="OCI layout directory to write")
    parser.add_argument("--tools", type=Path, default=Path("build/tools"), help="the tools tree")
    parser.add_argument(
        "--packages", type=Path, default=Path("build/cache/container"), help="package cache"
    )
    parser.add_argument("--push", metavar="HOST[:PORT]/REPOSITORY", help="push it there, too")
    parser.add_argument("--ca", type=Path, help="PEM file of the registry's authority")
    parser.set_defaults(func=run_container_image)


def run_container_image(arguments: argparse.Namespace) -> int:
    """Run the `container-image` command; prints the reference or the digest."""
    tools = ToolsTree(arguments.tools)
    image = build_container_image(
        tools,
        arguments.packages.resolve(),
        arguments.layout.resolve(),
        Progress(name="container-image"),
    )
    if arguments.push is None:
        print(image.digest)
        return 0
    if arguments.ca is None:
        raise ConfigError("container_image.ca", "--push needs --ca")
    print(push_container_image(tools, image, arguments.push, arguments.ca.resolve()))
    return 0


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
