import ast
import fcntl
import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from ccinit.formats.oci.image import Manifest, parse_image_config, parse_image_document
from rootfs_builder.container_image import demo_image
from rootfs_builder.container_image.demo_image import (
    PACKAGES,
    SERVICE_UID,
    build_demo_image,
)
from rootfs_builder.container_image.layer_tar import EPOCH
from rootfs_builder.container_image.location import Registries, write_image_to
from rootfs_builder.container_image.oci_layout import TAG, ContainerImage
from rootfs_builder.progress import Progress
from rootfs_builder.tools_tree import ToolsTree

SIMULATED = (
    "Inst base-files (13.8 x [amd64])\nInst zlib1g (1:1.3 x [amd64])\nConf zlib1g (1:1.3 x)\n"
)


class Tools(ToolsTree):
    """Plays apt, dpkg-deb, gzip, zstd and skopeo."""

    calls: list[tuple[str, ...]]
    offline: bool

    def run(self, arguments: Sequence[str | os.PathLike[str]], **keywords: object) -> bytes:
        words = tuple(os.fspath(argument) for argument in arguments)
        CALLS.append(words)
        match words[0]:
            case "apt-get" if "--simulate" in words:
                return SIMULATED.encode()
            case "apt-get" if "--download-only" in words:
                if not any("update" in call for call in CALLS):
                    raise ConfigError("tools.apt-get", "no lists")
                options = dict(word.split("=", 1) for word in words if "=" in word)
                archives = Path(options["Dir::Cache::archives"])
                for name in ("base-files_13.8_amd64.deb", "zlib1g_1%3a1.3_amd64.deb"):
                    (archives / name).touch()
            case "sh":
                unpack(Path(words[4]))
            case "gzip":
                data = keywords["input_data"]
                assert isinstance(data, bytes)
                return gzip.compress(data, mtime=0)
            case "zstd":
                return b"zstd"
        return b""


CALLS: list[tuple[str, ...]] = []


def unpack(root: Path) -> None:
    """What the packages hold, as far as the image's own code reads it."""
    files = {
        "usr/share/base-passwd/passwd.master": "root:*:0:0:root:/root:/bin/bash\n",
        "usr/share/base-passwd/group.master": "root:*:0:\n",
        "usr/share/ca-certificates/mozilla/A.crt": "-----A-----\n",
        "etc/debian_version": "13.8\n",
        "bin/tool": "tool",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    os.link(root / "bin/tool", root / "bin/tool-again")
    (root / "sh").symlink_to("bin/tool")


def build(directory: Path) -> ContainerImage:
    CALLS.clear()
    for path in directory.rglob("*"):
        os.utime(path, (EPOCH, EPOCH))
    return build_demo_image(
        Tools(Path("/tools")),
        directory / "packages",
        directory / "layout",
        Progress(name="test", stream=io.StringIO()),
    )


def read(image: ContainerImage, digest: object) -> bytes:
    return (image.layout / "blobs" / str(digest).replace(":", "/")).read_bytes()


@pytest.fixture
def image(tmp_path: Path) -> ContainerImage:
    return build(tmp_path)


def manifest(image: ContainerImage) -> Manifest:
    document = parse_image_document(read(image, image.digest))
    assert isinstance(document, Manifest)
    return document


def test_image_is_one_that_the_guest_reads(image: ContainerImage) -> None:
    document = manifest(image)
    config = parse_image_config(read(image, document.config.digest))
    assert [layer.compression.value for layer in document.layers] == ["gzip", "zstd", "none"]
    assert config.user == "service"
    assert config.entrypoint == ("/usr/bin/python3", "-I", "/srv/service.py")
    assert len(config.diff_ids) == 3
    for layer in document.layers:
        data = read(image, layer.blob.digest)
        assert hashlib.sha256(data).hexdigest() == layer.blob.digest.hex
        assert len(data) == layer.blob.size
    index = json.loads((image.layout / "index.json").read_text())
    assert index["manifests"][0]["digest"] == image.digest


def test_base_layer_is_sorted_and_owned_by_number(image: ContainerImage) -> None:
    base = gzip.decompress(read(image, manifest(image).layers[0].blob.digest))
    with tarfile.open(fileobj=io.BytesIO(base)) as tar:
        members = tar.getmembers()
        names = [member.name for member in members]
        assert names[0] == "."
        assert [name.split("/") for name in names[1:]] == sorted(
            name.split("/") for name in names[1:]
        )
        assert all(member.mtime <= EPOCH and not member.uname for member in members)
        passwd = tar.extractfile("etc/passwd")
        assert passwd is not None
        assert passwd.read().decode().splitlines() == [
            "root:x:0:0:root:/root:/bin/bash",
            f"service:x:{SERVICE_UID}:{SERVICE_UID}::/srv:/usr/sbin/nologin",
        ]
        again = tar.getmember("bin/tool-again")
        assert (again.type, again.linkname) == (tarfile.LNKTYPE, "bin/tool")
        assert tar.getmember("sh").linkname == "bin/tool"


def test_last_layer_removes_by_whiteouts(image: ContainerImage) -> None:
    removal = read(image, manifest(image).layers[2].blob.digest)
    with tarfile.open(fileobj=io.BytesIO(removal)) as tar:
        names = tar.getnames()
    assert "usr/share/.wh.doc" in names
    assert "usr/share/lintian/.wh..wh..opq" in names


def test_service_is_a_program(image: ContainerImage) -> None:
    module = ast.parse(demo_image._SERVICE)
    assert any(isinstance(node, ast.ClassDef) and node.name == "Handler" for node in module.body)
    assert image.bytes > 0


def test_packages_are_resolved_without_what_the_tools_tree_holds(tmp_path: Path) -> None:
    build(tmp_path)
    apt = [call for call in CALLS if call[0] == "apt-get"]
    assert [("update" in call, "--download-only" in call) for call in apt] == [
        (False, True),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert (tmp_path / "packages" / "status").read_bytes() == b""
    assert set(PACKAGES) <= set(apt[1 - 1])
    (extract,) = [call for call in CALLS if call[0] == "sh"]
    assert [Path(word).name for word in extract[5:]] == [
        "base-files_13.8_amd64.deb",
        "zlib1g_1%3a1.3_amd64.deb",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"layout", "packages"}


def test_folder_that_is_there_is_refused_with_all_that_is_in_it(tmp_path: Path) -> None:
    kept = tmp_path / "layout/kept"
    kept.parent.mkdir()
    kept.touch()
    with pytest.raises(ConfigError) as refused:
        build(tmp_path)
    assert (refused.value.reason, CALLS) == ("image.exists", [])
    assert kept.exists()
    kept.unlink()
    kept.parent.rmdir()
    assert build(tmp_path).layout == kept.parent


def test_apt_runs_for_one_build_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, found, plain = tmp_path / "packages/build.lock", list[bool](), Tools.run

    def run(tools: Tools, arguments: Sequence[str], **keywords: object) -> bytes:
        if arguments[0] == "apt-get":
            found.append(is_held(lock))
        return plain(tools, arguments, **keywords)

    monkeypatch.setattr(Tools, "run", run)
    build(tmp_path)
    assert (set(found), is_held(lock)) == ({True}, False)


def is_held(lock: Path) -> bool:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_no_package_at_all_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.SIMULATED", "")
    with pytest.raises(ConfigError) as refused:
        build(tmp_path)
    assert refused.value.reason == "container_image.packages"
    assert not (tmp_path / "layout").exists()


def test_image_is_pushed_as_it_is(image: ContainerImage, tmp_path: Path) -> None:
    CALLS.clear()
    ca = tmp_path / "authority.pem"
    ca.write_text("a certificate")
    registries = Registries(tools=Tools(Path("/tools")), ca=ca, credential="me:secret")
    reference = write_image_to(image, f"docker://localhost:5000/a/b:{TAG}", registries)
    assert reference == f"localhost:5000/a/b@{image.digest}"
    (skopeo,) = CALLS
    assert skopeo[-2:] == (f"oci:{image.layout}:{TAG}", f"docker://localhost:5000/a/b:{TAG}")
    assert "--preserve-digests" in skopeo
    assert "--dest-creds=me:secret" in skopeo
    assert any(word.startswith("--dest-cert-dir=") for word in skopeo)
    assert stat.S_ISDIR(image.layout.stat().st_mode)
