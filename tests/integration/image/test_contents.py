"""Opens the images that are published and looks for anything that should not be in a guest.

Builds them first if they are not up to date, so nothing here is ever left out. Needs root and the
tools tree (build/tools, made if absent).
"""

import json
import lzma
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ccinit.init.module_order import parse_module_order
from measured_boot.image.pe import parse_pe
from measured_boot.tpm.direct_line import line_of_kernel
from rootfs_builder.elf import is_elf, parse_elf
from rootfs_builder.file_list import read_listed
from rootfs_builder.guest_image.baseline import Member, list_violations
from rootfs_builder.guest_image.kernel_modules import FORBIDDEN, PLATFORM_DRIVERS
from rootfs_builder.tools_tree import ToolsTree
from tests.unit.measured_boot.newc_members import parse

pytestmark = pytest.mark.timeout(900)  # the first test may have to build

IMAGES = Path("build/image").absolute()
LISTS = Path("rootfs-builder/mkosi")
TOOLS = ToolsTree(Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute())
PROGRAMS = {"crun", "mkfs.erofs", "mkfs.ext4", "python3.13"}
LOADER = "ld-linux-x86-64.so.2"
PYC_UNCHECKED = 0b01
LEFT_OUT = (
    *("virtio_console_init", "nvme_init", "virtio_fs_init", "acpi_thermal_init"),
    "i8042_init",
)
MEBIBYTE = 1 << 20
ARCHIVE_END = b"TRAILER!!!\0"
BESIDE_THE_IMAGES = {
    "measurements.json",
    "rvps-sample.json",
    "corim.cbor",
    "sbom.spdx.json",
    "SHA256SUMS",
    "image-id",
    "builder.pub",
    "provenance.dsse.json",
}


@dataclass(frozen=True, kw_only=True)
class Image:
    """One profile, opened."""

    profile: str
    report: dict[str, Any]
    root: Path
    direct: dict[str, tuple[int, bytes]]
    uki: dict[str, tuple[int, bytes]]

    def file(self, suffix: str) -> Path:
        return IMAGES / f"ccinit-{self.profile}.{suffix}"

    def files(self) -> Iterator[tuple[str, Path]]:
        for path in sorted(self.root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield str(path.relative_to(self.root)), path


@pytest.fixture(scope="session", params=["prod", "test"])
def image(
    request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Image:
    profile = request.param
    folder = tmp_path_factory.mktemp(profile)
    stem = images / f"ccinit-{profile}"
    root = folder / "root"
    extract = ("fsck.erofs", f"--extract={root}", "--preserve", stem.with_suffix(".root.erofs"))
    TOOLS.run(extract, directories=(folder, IMAGES))
    efi = parse_pe(stem.with_suffix(".efi").read_bytes())
    section = next(section for section in efi.sections if section.name == ".initrd")
    initrd = efi.data[section.raw_offset : section.raw_offset + section.virtual_size]
    return Image(
        profile=profile,
        report=json.loads(stem.with_suffix(".json").read_text()),
        root=root,
        direct=open_initrd(stem.with_suffix(".direct.initrd").read_bytes()),
        uki=open_initrd(initrd),
    )


def open_initrd(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Return mode and content by path: a plain archive, then a compressed one."""
    end = data.index(ARCHIVE_END) + len(ARCHIVE_END)
    end += -end % 4
    # Like the kernel, this reader takes one frame and ignores the padding behind it.
    unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(data[end:])
    members = parse(data[:end]) + parse(unpacked)
    return {name: (fields[1], content) for name, fields, content in members}


def test_root_has_four_programs_and_the_loader(image: Image) -> None:
    programs = set()
    for name, path in image.files():
        data = path.read_bytes()
        if is_elf(data) and parse_elf(data).interpreter:
            programs.add(name)
    # Two libraries can be run to print their version; here they are mode 0644 like all others.
    talkers = {f"usr/lib/x86_64-linux-gnu/{name}" for name in ("libc.so.6", "libcap.so.2")}
    assert programs - talkers == {f"usr/bin/{program}" for program in PROGRAMS}


def test_nothing_but_programs_and_the_loader_is_executable(image: Image) -> None:
    executable = {path.name for _, path in image.files() if path.stat().st_mode & 0o111}
    assert executable == PROGRAMS | {LOADER}


def test_root_has_no_script_and_no_source(image: Image) -> None:
    assert [name for name, path in image.files() if path.read_bytes()[:2] == b"#!"] == []
    assert [name for name, _ in image.files() if name.endswith((".py", ".sh", ".pl"))] == []


def test_root_gives_no_rights_by_modes(image: Image) -> None:
    for path in image.root.rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (0, 0), path
        if stat.S_ISLNK(status.st_mode):
            continue
        assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode), path
        assert stat.S_IMODE(status.st_mode) in {0o755, 0o644}, path


def test_nothing_is_in_an_image_that_no_guest_may_hold(image: Image) -> None:
    root = [
        Member(
            path=str(path.relative_to(image.root)),
            mode=path.lstat().st_mode,
            data=path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
        )
        for path in image.root.rglob("*")
    ]
    assert len(root) > 500
    assert list_violations(root) == ()
    for initrd in (image.direct, image.uki):
        members = [
            Member(path=name, mode=mode, data=b"" if name == "root.erofs" else data)
            for name, (mode, data) in initrd.items()
            if name != "TRAILER!!!"
        ]
        assert len(members) > 100
        assert list_violations(members) == ()


def test_root_trusts_no_public_authority(image: Image) -> None:
    for name, path in image.files():
        data = path.read_bytes()
        assert b"-----BEGIN CERTIFICATE-----\nM" not in data, name
        assert path.suffix not in {".pem", ".crt", ".cer", ".p12"}, name
    assert not (image.root / "etc/ssl").exists()


def test_root_has_nothing_that_a_distribution_would_bring(image: Image) -> None:
    folders = {path.name for path in image.root.iterdir()}
    assert folders == {
        *("bin", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr"),
    }
    assert {path.name for path in (image.root / "etc").iterdir()} == {
        *("group", "hostname", "hosts", "mtab", "nsswitch.conf", "passwd", "resolv.conf"),
    }
    assert {path.name for path in (image.root / "usr").iterdir()} == {"bin", "lib", "lib64"}


def test_bytecode_in_root_and_initrd_is_never_checked_for_dates(image: Image) -> None:
    contents = {name: path.read_bytes() for name, path in image.files()}
    contents |= {name: data for name, (_, data) in image.direct.items()}
    compiled = {name: data for name, data in contents.items() if name.endswith(".pyc")}
    assert len(compiled) > 500
    assert {int.from_bytes(data[4:8], "little") for data in compiled.values()} == {PYC_UNCHECKED}


def test_r19_root_lacks_excluded_and_modules_for_tests_alone(image: Image) -> None:
    excluded = {entry.name for entry in read_listed(LISTS / "python-excluded.list")}
    if image.profile == "prod":
        excluded |= modules_for_tests_alone()
    for name in excluded:
        for folder in ("python3.13", "ccinit"):
            path = image.root / "usr/lib" / folder / name.replace(".", "/")
            assert not path.is_dir(), name
            assert not path.with_name(f"{path.name}.pyc").exists(), name


def modules_for_tests_alone() -> set[str]:
    return {entry.name for entry in read_listed(LISTS / "test-only.list")}


def test_r19_simulated_tee_is_in_test_images_alone(image: Image) -> None:
    assert "ccinit.attest.simulated" in modules_for_tests_alone()
    package = image.root / "usr/lib/ccinit/ccinit/attest/simulated"
    assert package.is_dir() is (image.profile == "test")
    # Nor is there anything else that knows of it by what it reads.
    readers = [name for name, path in image.files() if b"product_serial" in path.read_bytes()]
    assert len(readers) == (image.profile == "test")


def test_every_module_of_ours_can_be_imported_in_the_root(image: Image) -> None:
    absent = set() if image.profile == "test" else modules_for_tests_alone()
    names = sorted(
        name
        for path in Path("ccinit").rglob("*.py")
        if path.name not in {"__init__.py", "__main__.py"}
        and (name := ".".join(path.relative_to("ccinit").parts).removesuffix(".py"))
        and not any(f"ccinit.{name}.".startswith(f"{one}.") for one in absent)
    )
    code = (
        "import sys\n"
        "sys.path.insert(0, '/usr/lib/ccinit')\n"
        f"for name in {names!r}: __import__('ccinit.' + name)\n"
        "import httpx, isal.igzip_lib, pyroute2, zstandard\n"
        "assert 'example'.encode('idna') == b'example'\n"
        "print(len(sys.modules))"
    )
    assert int(run_in(image.root, "/usr/bin/python3.13", "-I", "-S", "-B", "-c", code)) > 200


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_each_program_finds_its_libraries(image: Image, program: str) -> None:
    listed = run_in(image.root, f"/lib64/{LOADER}", "--list", f"/usr/bin/{program}")
    assert "libc.so.6 => " in listed
    assert "not found" not in listed


def run_in(root: Path, *command: str) -> str:
    done = subprocess.run(
        ["chroot", root, *command],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_clock_floor_is_the_locks_date(image: Image) -> None:
    text = (image.root / "usr/lib/ccinit/build_time").read_text()
    assert int(text) > 1_700_000_000


def test_initrd_runs_one_program_and_one_script(image: Image) -> None:
    for initrd in (image.direct, image.uki):
        runnable = {
            name for name, (mode, _) in initrd.items() if stat.S_ISREG(mode) and mode & 0o111
        }
        assert {Path(name).name for name in runnable} == {"init", "python3.13", LOADER}
        scripts = {name for name, (_, data) in initrd.items() if data[:2] == b"#!"}
        assert scripts == {"init"}


def test_initrd_has_no_console_and_no_forbidden_module(image: Image) -> None:
    for initrd in (image.direct, image.uki):
        devices = {name for name, (mode, _) in initrd.items() if stat.S_ISCHR(mode)}
        assert devices == {"dev/null", "dev/urandom"}
        modules = {Path(name).stem.replace("-", "_") for name in initrd if name.endswith(".ko")}
        assert modules.isdisjoint(FORBIDDEN)
        texts = [data for name, (_, data) in initrd.items() if name.startswith("modules/order")]
        assert len(texts) == 1 + len(PLATFORM_DRIVERS)
        orders = [parse_module_order(text) for text in texts]
        lines = chain.from_iterable(chain.from_iterable(orders))
        assert {line.file for line in lines} == {
            name.removeprefix("modules/") for name in initrd if name.endswith(".ko")
        }


def test_functions_that_are_not_to_start_have_the_names_that_the_kernel_has(image: Image) -> None:
    """The kernel says nothing of a name that it lacks, and starts what was meant."""
    kernel = image.file("vmlinuz").read_bytes()
    packed = kernel[kernel.index(zstandard.FRAME_HEADER) :]
    code = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    line = image.report["command_lines"]["uki"]
    left_out = line.partition("initcall_blacklist=")[2].split()[0].split(",")
    assert [function for function in left_out if not holds(code, function)] == []
    modules = {
        path.name.partition(".")[0].replace("-", "_"): path
        for path in Path("build/quarry/tree/usr/lib/modules").rglob("*.ko.xz")
    }
    for name, function in FORBIDDEN.items():
        built_in = name not in modules
        assert holds(code if built_in else lzma.decompress(modules[name].read_bytes()), function)


def holds(code: bytes, function: str) -> bool:
    return b"\0" + function.encode() + b"\0" in code


def test_each_boot_path_expects_its_own_line(image: Image) -> None:
    lines = image.report["command_lines"]
    assert image.direct["ccinit.cmdline"][1].decode() == line_of_kernel(lines["direct"])
    assert image.uki["ccinit.cmdline"][1].decode() == lines["uki"]
    assert image.file("direct.cmdline").read_text() == lines["direct"]
    assert ("oops=panic" in lines["direct"].split()) == (image.profile == "prod")
    assert lines["direct"] != lines["uki"]


def test_each_line_has_every_word_of_the_baseline(image: Image) -> None:
    words = {
        *("console=ttynull", "quiet", "loglevel=0", "panic=-1", "mce=off", "no-kvmclock"),
        *("tsc=reliable", "xen_nopv", "random.trust_cpu=on", "random.trust_bootloader=off"),
        *("ia32_emulation=off", "vsyscall=none", "pci=nommconf,noearly", "efi=noruntime"),
        *("efi_pstore.pstore_disable=1", "pstore.backend=none"),
        *("erst_disable", "hest_disable", "bert_disable", "memhp_default_state=offline"),
        "initcall_blacklist=" + ",".join(LEFT_OUT),
        *("lockdown=confidentiality", "module.sig_enforce=1"),
        *("slab_nomerge", "init_on_alloc=1", "init_on_free=1"),
        *(("oops=panic", "8250.nr_uarts=0") if image.profile == "prod" else ()),
    }
    for path, carrier in (("direct", "disk"), ("uki", "ram")):
        line = image.report["command_lines"][path].split()
        assert len(line) == len(set(line))
        assert words <= set(line)
        assert f"ccinit.carrier={carrier}" in line


def test_uki_carries_the_root_of_the_disk(image: Image) -> None:
    carried = image.uki["root.erofs"][1]
    disk = image.file("root.erofs").read_bytes()
    assert disk.startswith(carried)
    assert "root.erofs" not in image.direct


def test_disk_verifies_by_an_independent_tool(image: Image) -> None:
    disk = image.file("root.erofs")
    offset = str(image.report["blocks"] * 4096)
    TOOLS.run(
        (
            *("veritysetup", "verify", "--no-superblock", "--hash=sha256"),
            *(f"--salt={image.report['salt']}", f"--data-blocks={image.report['blocks']}"),
            *(f"--hash-offset={offset}", disk, disk, image.report["root_hash"]),
        ),
        directories=(IMAGES,),
    )


def test_parts_keep_their_budgets(image: Image) -> None:
    assert image.file("root.erofs").stat().st_size <= 27 * MEBIBYTE
    assert image.file("direct.initrd").stat().st_size <= 6 * MEBIBYTE
    assert image.file("efi").stat().st_size <= 45 * MEBIBYTE


def test_nothing_else_is_published(image: Image) -> None:
    names = {path.name for path in IMAGES.glob(f"ccinit-{image.profile}.*")}
    assert names == set(image.report["files"]) | {f"ccinit-{image.profile}.json"}
    images = {path.name for path in IMAGES.glob("ccinit-*.*")}
    assert {name.split(".")[0] for name in images} <= {
        *("ccinit-prod", "ccinit-test", "ccinit-debug-tools"),
    }
    assert {path.name for path in IMAGES.iterdir()} - images == BESIDE_THE_IMAGES
