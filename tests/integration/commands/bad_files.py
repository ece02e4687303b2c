"""Files that no command wants, and every command line with its places for files.

`{bad}` is one of `make_bad_files`, `{new}` is not there yet, other names are `make_good_files`'.
"""

import os
from collections.abc import Callable
from pathlib import Path

import guest_owner.cli
import host_runtime.cli
import host_runtime.oci_runtime.cli
import measured_boot.cli
import rootfs_builder.cli
from tests.fakes.documents.oci_bundles import make_document
from tests.fakes.published.publications import write_publication
from tests.unit.guest_owner.commands.manifest_documents import CONFIG, POD

ROOT = Path(__file__).resolve().parents[3]
TOOLS = Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute()
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "guest-owner": guest_owner.cli.main,
    "host-runtime": host_runtime.cli.main,
    "ccinit-runtime": host_runtime.oci_runtime.cli.main,
    "measured-boot": measured_boot.cli.main,
    "rootfs-builder": rootfs_builder.cli.main,
}
PARSERS = {
    "guest-owner": guest_owner.cli.build_parser,
    "host-runtime": host_runtime.cli._parser,
    "measured-boot": measured_boot.cli._parser,
    "rootfs-builder": rootfs_builder.cli._parser,
}
CONTENTS = {
    "empty": b"",
    "json-cut": b'{"format": 1, "fil',
    "json-other": b'{"format": 9, "files": null}',
    "json-null": b"null",
    "json-deep": b'{"a":' * 20_000,
    "number-long": b'{"a": ' + b"9" * 5000 + b"}",
    "toml-cut": b'version = 1\n[kbs]\nurl = "htt',
    "text-latin": b'version = 1\nname = "\xff"\n',
    "pem-cut": b"-----BEGIN PRIVATE KEY-----\nAAAA\n",
    "pem-other": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    "binary": bytes(range(256)) * 8,
    "zeros": bytes(5000),
}
OTHERS = ("folder", "missing", "circle", "below-a-file", "unreadable")

_DIGEST = "a" * 64
_DIRECT = "--initrd {initrd} --command-line {cmdline}"
_TEE = "boot {new} --accelerator kvm --initdata {document}"
_PLANE = "--connect 127.0.0.1:1 --pod shop"
_MAKE = "initdata make --output {new}"
_ENCRYPT = "container-image encrypt --name web --output {new} --recipient kbs:///a/b/c"
_SIGN = "container-image sign --identity registry.example/x --output {new}"
_STATE = "--state {state}"
# fmt: off
READING: dict[str, tuple[str, ...]] = {
    "measured-boot": (
        "predict {bad}",
        "predict {bad} " + _DIRECT,
        "predict {report} --platform snp_direct_qemu-10 --cpu-model EPYC-Milan --firmware {bad}",
        "explain {bad}",
        "replay {bad}",
        "verify {bad} --builder-key {builder}",
        "verify {published} --builder-key {bad}",
        "unverified cca {bad}",
        "unverified se {bad}",
    ),
    "host-runtime": (
        "boot {new} --uki {bad} --accelerator tcg --tools {tools}",
        "boot {new} --uki {uki} --accelerator tcg --tools {tools} --disk {bad} --disk {bad}",
        _TEE + " --uki {uki} --tee tdx --firmware {bad}",
        _TEE + " --kernel {kernel} --initrd {initrd} --tee snp --cpu-model EPYC-Milan"
        " --firmware {bad}",
        "record {bad} {uki}",
    ),
    "ccinit-runtime": (
        "--root {new} --config {bad} create --bundle {boot} a",
    ),
    "rootfs-builder": (
        "--repository {bad} tools",
        "--repository {bad} image",
        "--repository {bad} lock",
        "--repository {repository} image --project {bad}",
        "--repository {repository} lock --project {bad}",
        "--repository {ours} compare {bad} {published}",
        "--repository {ours} compare {published} {bad}",
        _SIGN + " oci:{published} --tools {tools} --key {bad} --signature oci:{new}",
        "container-image push oci:{bad} docker://registry.example/x:1 --tools {tools}",
        _ENCRYPT + " oci:{bad} oci:{new} --tools {tools}",
    ),
    "guest-owner": (
        "kbs serve --listen 127.0.0.1:0 --certificate {bad} --key {log_key} " + _STATE,
        "admin token {bad}",
        *(f"register {what} {{bad}} {_STATE}" for what in (
            "reference", "ak", "root --platform snp", "requirements --platform snp",
            "issuer --keys {document}", "initdata", "image-policy kbs:///ccinit/shop/file-policy",
            "resource --kind volume-key kbs:///ccinit/shop/volume-key-x",
        )),
        "manifest init --ca {ca} --output {new} --kubernetes {bad}",
        "manifest check {bad}",
        *(f"manifest check {{pod}} --config {each}" for each in (
            "{bad}", "{config} --aa {bad}", "{config} --cdh {bad}")),
        "manifest digest {bad} --config {config}",
        _MAKE + " --config {bad} --pod {pod}",
        _MAKE + " --config {config} --pod {bad}",
        "initdata show {bad}",
        "launch-secret {bad} --output {new} " + _STATE,
        "unseal {document} --key {bad}",
        "log-key public {bad}",
        f"verify {{bad}} --report-data {'0' * 128} {_STATE}",
        "verify {document} --reference {bad}",
        "verify {document} --requirements {bad}",
        "verify {document} --root {bad}",
        *(f"{what} --client {{bad}} --ca {{ca}} {_PLANE}" for what in (
            "logs", "events", "metrics", "attest", "top", "attach web", "signal web 15", "rotate",
        )),
        "logs --client {client} --ca {bad} " + _PLANE,
        "debug tools {bad}",
        "debug grant shop --tools {bad} " + _STATE,
    ),
}
"""What cannot be done, whichever bad file it is, and is told with the name of that file."""

WRITING: dict[str, tuple[str, ...]] = {
    "measured-boot": (
        "predict {report} --output {new}",
        "explain {report} --svg {new}",
    ),
    "host-runtime": (
        "boot {new} --uki {uki} --accelerator tcg --tools {tools}",
    ),
    "rootfs-builder": (
        "--repository {repository} image --builder-key {new}",
        "container-image build {new} --directory {boot} --tools {tools}",
    ),
    "guest-owner": (
        "kbs init --name kbs.example --state {new}",
        "admin new-key {new} " + _STATE,
        "manifest init --ca {ca} --image registry.example/x@sha256:" + _DIGEST + " --output {new}",
        _MAKE + " --config {config} --pod {pod}",
        "volume-key new {new}",
        "log-key new {new}",
        "client-cert new me --role admin --output {new} " + _STATE,
        "owner-identity new shop --output {new} " + _STATE,
        "policy export --trustee --output {new} " + _STATE,
    ),
}
"""What writes a file or a folder, and says so if the disk is full."""

ELSEWHERE: dict[str, frozenset[str]] = {
    "host-runtime": frozenset({
        "collect", "exit", "hello", "metrics", "offer-network", "relay", "start", "state", "stop",
        "wait",
    }),
    "measured-boot": frozenset({"platforms"}),
    "rootfs-builder": frozenset({"container-image demo"}),
    "guest-owner": frozenset({
        "register tls-identity", "register rollback-counter", "policy allow", "policy list",
        "policy remove", "policy explain", "unregister", "volume-key seal-header", "audit show",
        "client-ca init", "client-ca show", "kbs new-certificate", "exec", "cp", "debug open",
    }),
}
"""Commands that read no file of their own form (they call a guest, or read what `--state` holds),
that install what they are made of, or whose tests do it by themselves."""
# fmt: on


def make_good_files(folder: Path) -> dict[str, Path]:
    """Make what commands want, and return it by the names of the tables."""
    repository, boot = folder / "repository", folder / "boot"
    write_publication(folder / "published")
    image = folder / "published/ccinit-prod"
    files = {name: folder / name for name in ("published", "repository", "boot", "state")}
    files |= {"ours": ROOT, "tools": TOOLS}
    files |= {name: folder / name for name in ("config", "pod", "document", "log_key", "client")}
    files |= {"report": image.with_suffix(".json"), "uki": image.with_suffix(".efi")}
    files |= {"kernel": image.with_suffix(".vmlinuz"), "initrd": Path(f"{image}.direct.initrd")}
    files |= {
        "cmdline": Path(f"{image}.direct.cmdline"),
        "builder": folder / "published/builder.pub",
    }
    files |= {"ca": folder / "state/ca.pem"}
    for path in (repository, boot):
        path.mkdir()
    (repository / "mkosi.conf").touch()
    (boot / "serial").touch()
    files["config"].write_text(CONFIG)
    files["pod"].write_text(POD.replace("{digest}", _DIGEST))
    files["document"].write_bytes(make_document())
    for words in (
        f"kbs init --name kbs.example --state {files['state']}",
        f"client-ca init --state {files['state']}",
        f"client-cert new me --role admin --output {files['client']} --state {files['state']}",
        f"log-key new {files['log_key']}",
    ):
        assert PROGRAMS["guest-owner"](words.split()) == 0
    return files


def make_bad_files(folder: Path) -> dict[str, Path]:
    """Make files that nothing can be done with, and return them by what is wrong with them."""
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    (folder / "circle").symlink_to("circle")
    bad = {name: folder / name for name in (*CONTENTS, *OTHERS)}
    return bad | {
        "below-a-file": folder / "empty/file",
        "unreadable": Path(f"/proc/{os.getpid()}/mem"),  # opens, and then EIO: also for root
    }
