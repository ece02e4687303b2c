"""Words that nobody can obey end every command with status 2, before it looks at any file.

No file of these command lines exists: what looked at one first would end with 1.
"""

import argparse
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import guest_owner.cli
import host_runtime.cli
import measured_boot.cli
import rootfs_builder.cli

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS: dict[str, tuple[Callable[[list[str]], int], Callable[[], argparse.ArgumentParser]]] = {
    "guest-owner": (guest_owner.cli.main, guest_owner.cli.build_parser),
    "host-runtime": (host_runtime.cli.main, host_runtime.cli._parser),
    "measured-boot": (measured_boot.cli.main, measured_boot.cli._parser),
    "rootfs-builder": (rootfs_builder.cli.main, rootfs_builder.cli._parser),
}
_PLANE = "--connect 127.0.0.1:1 --client c --pod"
_DIRECT = "boot new --kernel k --initrd i"
_SNP = "--tee snp --firmware f --initdata d"
_ENCRYPT = "container-image encrypt oci:a oci:b --output o --recipient"
_SIGN = "container-image sign --key k --output o"
_IMAGE = f"r.example/a@sha256:{'ab' * 32}"
_OFFER = "offer-network --guest g --mac 52:54:00:cc:00:01 --address 10.0.2.15/24 --gateway 10.0.2.2"
_PREDICT = "predict image.json --platform"
# fmt: off
WRONG: dict[str, dict[str, tuple[str, ...]]] = {
    "guest-owner": {
        "admin.name": ("admin new-key k --name Alice",),
        "audit.session": ("audit show --all",),
        "certificate.name": (
            "kbs init --name 'a b'",
            "kbs new-certificate --name 'a b'",
            f"client-cert new {'a' * 65} --role logs --output o",
        ),
        "counter.pod": ("register rollback-counter Shop data",),
        "counter.volume": ("register rollback-counter shop Data",),
        "cp.form": (f"cp {_PLANE} shop a b", f"cp {_PLANE} shop web:/a db:/b"),
        "debug.pod": ("debug grant Shop --tools t",),
        "debug.terms": (
            f"debug open --granted --minutes 5 {_PLANE} shop",
            f"debug open --granted --keep-pod {_PLANE} shop",
        ),
        "exec.args": (f"exec {_PLANE} shop web", f"exec {_PLANE} shop web -- ls"),
        "explain.initdata": (
            "policy explain --reference a",
            "policy explain --reference a --initdata ../b",
        ),
        "explain.reference": ("policy explain --reference ../a --initdata b",),
        "export.initdata": ("policy export --trustee --output o --initdata ../a",),
        "export.reference": ("policy export --trustee --output o --reference ../a",),
        "explain.session": (
            "policy explain --session a --initdata b",
            "policy explain --session a --device sampledevice",
        ),
        "file.twice": ("initdata make --config c --pod p --output p",),
        "identity.pod": ("owner-identity new Shop --output o",),
        "manifest.name": ("manifest init --kubernetes k --name shop --ca c --output o",),
        "owner.container": (
            f"logs {_PLANE} shop --container 'A B'",
            f"exec {_PLANE} shop @web /bin/ls",
            f"attach {_PLANE} shop Web",
            f"signal {_PLANE} shop Web 15",
            f"cp {_PLANE} shop Web:/a b",
            f"cp {_PLANE} shop b Web:/a",
        ),
        "owner.options": ("logs", f"metrics {_PLANE.removesuffix('--pod')}"),
        "owner.pod": (f"logs {_PLANE} Shop",),
        "pod.name": (f"manifest init --image {_IMAGE} --name Shop --ca c --output o",),
        "policy.reference": ("policy allow a/b/c --initdata d --reference ../e",),
        "policy.rule.devices": (
            "policy allow a/b/c --initdata d --device e",
            "policy explain --reference a --initdata b --device e",
            "verify evidence --device e",
        ),
        "policy.rule.initdata": ("policy allow a/b/c --initdata sha256:0",),
        "policy.rule.resources": ("policy allow a/b --initdata d",),
        "reference.digest": ("manifest init --image r.example/a:1 --ca c --output o",),
        "register.name": tuple(f"register {what} f --name ../x" for what in (
            "reference", "ak", "root --platform snp", "issuer --keys k", "initdata",
        )),
        "resource.create": (
            "register resource kbs:///a/b/c f --create",
            "register resource kbs:///a/b/c f --create --envelope --kind file",
        ),
        "resource.identity": ("register tls-identity kbs:///ccinit/shop/log-psk",),
        "resource.kind": ("register resource kbs:///a/b/c f --envelope",),
        "resource.uri": (
            "register resource https://a/b/c f",
            "register image-policy kbs:///a/b f",
            "policy explain kbs:///a/b --session a",
        ),
        "unregister.path": (
            "unregister ../a",
            "unregister references",
            "unregister references/a.json policy.toml",
        ),
        "verify.report_data": ("verify evidence --report-data xyz",),
        "volume_key.pod": ("volume-key seal-header d k --pod Shop --volume data",),
        "volume_key.volume": ("volume-key seal-header d k --pod shop --volume Data",),
    },
    "host-runtime": {
        "boot.folder": (f"{_DIRECT} --tpm ./new",),
        "boot.forward": (
            f"{_DIRECT} --forward 1:2",
            f"{_DIRECT} --network open --forward 1:2 --forward 1:3",
            f"{_DIRECT} --network pod --forward 1:2",
            f"{_DIRECT} --network open --forward 1:x",
        ),
        "boot.kbs": (f"{_DIRECT} --network pod --kbs 127.0.0.1:1",),
        "boot.what": (
            "boot new",
            "boot new --uki u --kernel k --initrd i",
            "boot new --kernel k",
            "boot new --uki u --ovmf",
        ),
        "cpu_model.unknown": (f"{_DIRECT} {_SNP} --cpu-model host",),
        "kbs.address": (f"{_DIRECT} --kbs kbs.example",),
        "offer_network.dns": (
            f"{_OFFER} --dns 10.0.2.3 --dns 10.0.2.4 --dns 10.0.2.5 --dns 10.0.2.6",
        ),
        "tee.boot": (f"boot new --uki u {_SNP} --cpu-model EPYC-Milan",),
        "tee.options": (
            f"{_DIRECT} --firmware f",
            f"{_DIRECT} --author-key",
            f"{_DIRECT} --tee tpm",
            f"{_DIRECT} --tee none --tpm t",
            f"{_DIRECT} --tee tdx --firmware f",
            f"{_DIRECT} --tee tdx --initdata d",
            f"{_DIRECT} --tee tdx --firmware f --initdata d --ovmf",
            f"{_DIRECT} --tee tdx --firmware f --initdata d --accelerator tcg",
            f"{_DIRECT} {_SNP}",
            f"{_DIRECT} {_SNP} --cpu-model EPYC-Milan --author-key",
            f"{_DIRECT} {_SNP} --cpu-model EPYC-Milan --id-block b",
        ),
        "tee.policy": (f"{_DIRECT} {_SNP} --cpu-model EPYC-Milan --policy 1",),
    },
    "measured-boot": {
        "cpu_model.unknown": (f"{_PREDICT} snp_direct_qemu-10 --firmware f --cpu-model host",),
        "file.twice": ("predict image.json --output image.json", "explain a --svg a"),
        "platform.mismatch": (
            "predict u.efi --platform snp_direct_qemu-10 --firmware f --cpu-model EPYC-Milan",
            "explain k --initrd i --command-line c --platform ovmf-2025.02_stub-257.13_qemu-10",
        ),
        "platform.unknown": (
            f"{_PREDICT} x",
            "explain a --platform x",
            "replay l --image a --platform x",
        ),
        "predict.what": (
            "predict image.json --firmware f",
            "predict image.json --initrd i",
            "predict k --initrd i",
            "explain k --command-line c",
            f"{_PREDICT} snp_direct_qemu-10",
            f"{_PREDICT} snp_direct_qemu-10 --firmware f",
            f"{_PREDICT} snp_direct_qemu-10 --firmware f --cpu-model EPYC-Milan --events",
            f"{_PREDICT} snp_direct_qemu-10 --firmware f --cpu-model EPYC-Milan --svsm s",
            f"{_PREDICT} sev_direct_qemu-10 --firmware f --vcpus 2",
        ),
        "reference.name": ("predict image.json --name Image",),
        "replay.what": ("replay log --platform x", "replay log --initrd i"),
    },
    "rootfs-builder": {
        "build.content": ("container-image build new",),
        "build.env": ("container-image build new --directory d --env A",),
        "build.text": ("container-image build new --directory d --user \udcff",),
        "encrypt.private_key": (
            f"{_ENCRYPT} kbs:///a/b/c --private-key https://x",
            f"{_ENCRYPT} jwe:k --private-key kbs:///a/b/c",
        ),
        "encrypt.recipient": (f"{_ENCRYPT} https://a/b/c",),
        "image.credential": (
            "container-image push oci:a docker://r.example/a --credential u:p --auth-file f",
        ),
        "image.location": (
            "container-image push oci:a somewhere",
            "container-image push somewhere oci:a",
            f"{_SIGN} somewhere",
            f"{_SIGN} oci:a --identity r.example/w --signature somewhere",
        ),
        "image.registry": (
            "container-image push oci:a oci:b --credential u:p",
            f"{_SIGN} oci:a --identity r.example/w --signature oci:s --auth-file f",
            f"{_ENCRYPT} kbs:///a/b/c --ca c",
        ),
        "kbs.options": (
            f"{_ENCRYPT} kbs:///a/b/c --kbs https://kbs.example",
            f"{_ENCRYPT} kbs:///a/b/c --kbs-ca c",
            f"{_ENCRYPT} kbs:///a/b/c --no-envelope",
        ),
        "kbs.url": (
            f"{_ENCRYPT} kbs:///a/b/c --kbs http://kbs.example --kbs-ca c --kbs-admin-key k",
        ),
        "sign.identity": (
            f"{_SIGN} oci:a",
            f"{_SIGN} oci:a --signature oci:s --identity web",
        ),
    },
}
# fmt: on
RIGHT = {
    "guest-owner": "register resource kbs:///a/b/c missing --kind volume-key --envelope --create",
    "host-runtime": f"{_DIRECT} {_SNP} --cpu-model EPYC-Milan",
    "measured-boot": f"{_PREDICT} snp_direct_qemu-10 --firmware f --cpu-model EPYC-Milan",
    "rootfs-builder": f"{_SIGN} oci:a --signature oci:s --identity r.example/web",
}


def status_of(program: str, line: str) -> int:
    try:
        return PROGRAMS[program][0](shlex.split(line))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else -1


@pytest.fixture(autouse=True)
def _nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("CONNECT", "CLIENT", "POD", "STATE"):
        monkeypatch.delenv(f"GUEST_OWNER_{variable}", raising=False)


@pytest.mark.parametrize(
    ("program", "reason", "line"),
    [
        pytest.param(program, reason, line, id=ascii(f"{program} {line}"))
        for program, rows in WRONG.items()
        for reason, lines in rows.items()
        for line in lines
    ],
)
def test_wrong_usage_is_told_before_anything_is_looked_at_or_made(
    program: str, reason: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(program, line) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.endswith(f"[{reason}]\n")) == ("", True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("program", "line"), RIGHT.items())
def test_files_that_are_not_there_are_no_wrong_usage(program: str, line: str) -> None:
    assert status_of(program, line) == 1


def test_every_wrong_usage_that_the_code_knows_has_a_row() -> None:
    sources = [path for path in ROOT.glob("*/src/**/*.py") if path.name != "usage.py"]
    known = {
        reason
        for path in sources
        for reason in re.findall(r'UsageError\(\s*"([a-z_.]+)"', path.read_text())
    }
    assert len(known) > 10
    assert known <= {reason for rows in WRONG.values() for reason in rows}


@pytest.mark.parametrize("program", PROGRAMS)
def test_readme_and_help_name_the_status_of_wrong_usage(program: str) -> None:
    said = PROGRAMS[program][1]().format_help()
    readme = (ROOT / program / "README.md").read_text()
    for text in (said, readme):
        assert "2 wrong usage" in " ".join(text.split())
