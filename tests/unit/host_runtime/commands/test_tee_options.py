"""What `host-runtime boot --tee … --print` prints, and what it refuses."""

import hashlib
import shutil
from pathlib import Path

import pytest

from ccinit.formats.initdata.document import encode_device_image
from host_runtime.cli import main
from host_runtime.commands import boot_plan
from host_runtime.machine.qemu import Accelerator
from host_runtime.machine.tee import SnpGuest, TdxGuest, plan_tee_object
from tests.fakes.documents.oci_bundles import make_document
from tests.fakes.platforms.firmware import TDX_LIST_OFFSET, TDX_SECTIONS, FakeFirmware, tdx_list

INITDATA = make_document()
SNP = SnpGuest(host_data=hashlib.sha256(INITDATA).digest(), cpu_model="EPYC-Milan")
TDX = TdxGuest(mrconfigid=hashlib.sha384(INITDATA).digest())
DIRECT = ("--kernel", "k", "--initrd", "i", "--command-line", "quiet a=b")
SNP_WORDS = ("--tee", "snp", "--firmware", "snp.fd", "--initdata", "initdata.toml")
MODEL = ("--cpu-model", "EPYC-Milan")
TDX_WORDS = ("--tee", "tdx", "--firmware", "tdx.fd", "--initdata", "initdata.toml")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tdx = FakeFirmware(lists={TDX_LIST_OFFSET: tdx_list(TDX_SECTIONS)})
    contents = {
        "snp.fd": FakeFirmware().to_bytes(),
        "plain.fd": FakeFirmware(hash_area=(0, 0)).to_bytes(),
        "tdx.fd": tdx.to_bytes(),
        "initdata.toml": INITDATA,
        "disk.img": encode_device_image(INITDATA),
        "block": bytes(96),
        "auth": bytes(4096),
        "tree/usr/bin/qemu-system-x86_64": b"",
        "tree/usr/share/qemu/x": b"",
        "tree/usr/share/seabios/x": b"",
        "tree/usr/share/OVMF/OVMF_CODE_4M.fd": b"",
        "tree/usr/share/OVMF/OVMF_VARS_4M.fd": b"",
    }
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)


def plan(capsys: pytest.CaptureFixture[str], *options: str) -> list[str]:
    assert main(["boot", "new", "--print", "--tools", "tree", "--vsock", "kernel", *options]) == 0
    words = capsys.readouterr().out.splitlines()
    assert not Path("new").exists()
    return words


def value_of(words: list[str], option: str) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == option]


def test_snp_is_planned_exactly(capsys: pytest.CaptureFixture[str]) -> None:
    words = plan(capsys, *DIRECT, *SNP_WORDS, *MODEL, "--vcpus", "4")
    assert value_of(words, "-machine") == [
        "q35,memory-backend=memory,vmport=off,confidential-guest-support=tee"
    ]
    assert value_of(words, "-object") == [
        "memory-backend-memfd,id=memory,size=512M,share=on",
        plan_tee_object(SNP),
    ]
    assert value_of(words, "-accel") == ["kvm"]
    assert value_of(words, "-cpu") == ["EPYC-Milan"]
    assert value_of(words, "-smp") == ["4"]
    assert value_of(words, "-bios") == ["snp.fd"]
    assert value_of(words, "-kernel") == ["k"]
    assert value_of(words, "-append") == ["quiet a=b"]
    assert "pflash0" not in " ".join(words)
    assert words.count("-no-reboot") == 1


def test_snp_identity_block_is_carried(capsys: pytest.CaptureFixture[str]) -> None:
    identity = ("--id-block", "block", "--id-auth", "auth", "--author-key")
    words = plan(capsys, *DIRECT, *SNP_WORDS, *MODEL, *identity)
    assert value_of(words, "-object")[1].endswith("=,author-key-enabled=on")


def test_firmware_of_the_operators_takes_the_place_of_ovmf(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.rmtree("tree/usr/share/OVMF")
    words = plan(capsys, "--uki", "u.efi", *TDX_WORDS)
    assert value_of(words, "-bios") == ["tdx.fd"]
    assert main(["boot", "new", "--print", "--tools", "tree", "--uki", "u.efi"]) == 1
    assert "[tools.file]" in capsys.readouterr().err


@pytest.mark.parametrize("boot", [DIRECT, ("--uki", "u.efi")])
def test_tdx_is_planned_exactly(boot: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    words = plan(capsys, *boot, *TDX_WORDS)
    assert value_of(words, "-machine") == [
        "q35,memory-backend=memory,vmport=off,confidential-guest-support=tee,kernel-irqchip=split"
    ]
    assert value_of(words, "-object")[1] == plan_tee_object(TDX)
    assert value_of(words, "-cpu") == ["host"]
    assert value_of(words, "-bios") == ["tdx.fd"]


def test_tpm_and_none_have_no_object_of_a_tee(capsys: pytest.CaptureFixture[str]) -> None:
    tpm = plan(capsys, "--uki", "u.efi", "--tee", "tpm", "--tpm", "t", "--accelerator", "tcg")
    none = plan(capsys, *DIRECT, "--tee", "none", "--accelerator", "tcg")
    assert "tpm-crb,tpmdev=tpm" in tpm
    assert "tpm-crb,tpmdev=tpm" not in none
    for words in (tpm, none):
        assert "confidential-guest-support" not in " ".join(words)
        names = [word.split(",")[1] for word in value_of(words, "-object")]
        assert names == ["id=memory", "id=error-records"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((*DIRECT, *SNP_WORDS[:4], *MODEL), "tee.options"),
        ((*DIRECT, *SNP_WORDS[:2], *SNP_WORDS[4:], *MODEL), "tee.options"),
        ((*DIRECT, *SNP_WORDS), "tee.options"),
        ((*DIRECT, *SNP_WORDS, "--cpu-model", "host"), "cpu_model.unknown"),
        (("--uki", "u", *SNP_WORDS, *MODEL), "tee.boot"),
        ((*DIRECT, *SNP_WORDS, *MODEL, "--policy", "0xb0000"), "tee.policy"),
        ((*DIRECT, *SNP_WORDS, *MODEL, "--policy", "0x10000"), "tee.policy"),
        ((*DIRECT, *SNP_WORDS, *MODEL, "--id-block", "block"), "tee.options"),
        ((*DIRECT, *SNP_WORDS, *MODEL, "--id-auth", "auth"), "tee.options"),
        ((*DIRECT, *SNP_WORDS, *MODEL, "--tpm", "t"), "tee.options"),
        ((*DIRECT, *TDX_WORDS, *MODEL), "tee.options"),
        ((*DIRECT, *TDX_WORDS[:4]), "tee.options"),
        ((*DIRECT, *TDX_WORDS, "--policy", "0x30000"), "tee.options"),
        ((*DIRECT, "--author-key"), "tee.options"),
        ((*DIRECT, *SNP_WORDS, *MODEL, "--author-key"), "tee.options"),
        ((*DIRECT, "--tee", "tpm"), "tee.options"),
        ((*DIRECT, "--tee", "none", "--tpm", "t"), "tee.options"),
        ((*DIRECT, "--initdata", "initdata.toml"), "tee.options"),
        ((*DIRECT, "--firmware", "snp.fd"), "tee.options"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(
    options: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["boot", "new", "--print", "--tools", "tree", *options]) == 2
    assert f"[{reason}]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((*DIRECT, *SNP_WORDS, *MODEL, "--firmware", "plain.fd"), "launch.kernel_hashes"),
        ((*DIRECT, *SNP_WORDS, *MODEL, "--firmware", "block"), "firmware.length"),
        ((*DIRECT, *SNP_WORDS, *MODEL, "--id-block", "auth", "--id-auth", "auth"), "tee.identity"),
        ((*DIRECT, *TDX_WORDS, "--firmware", "snp.fd"), "launch.firmware"),
        ((*DIRECT, *SNP_WORDS, *MODEL, "--initdata", "disk.img"), "initdata.toml"),
        ((*DIRECT, *TDX_WORDS, "--initdata", "disk.img"), "initdata.toml"),
        ((*DIRECT, *TDX_WORDS, "--initdata", "/dev/zero"), "file.length"),
        ((*DIRECT, *TDX_WORDS, "--firmware", "/dev/zero"), "file.length"),
        (
            (*DIRECT, *SNP_WORDS, *MODEL, "--id-block", "/dev/zero", "--id-auth", "auth"),
            "file.length",
        ),
    ],
)
def test_file_that_is_not_what_its_option_names_is_refused(
    options: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["boot", "new", "--print", "--tools", "tree"]
    assert main([*command, *DIRECT, *SNP_WORDS, *MODEL]) == 0
    assert main([*command, *options]) == 1
    assert f"[{reason}]" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(*SNP_WORDS, *MODEL), TDX_WORDS])
def test_tee_without_kvm_is_not_started(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot_plan, "choose_accelerator", lambda _tools: Accelerator.TCG)
    command = ["boot", "new", "--tools", "tree", *DIRECT, *words]
    assert main(command) == 1
    assert "[tee.hardware]" in capsys.readouterr().err
    assert not Path("new").exists()
