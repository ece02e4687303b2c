"""Build the image of a profile: every published file, from what the other modules make.

There are two boot paths. `uki` is one EFI file that holds the root (carrier `ram`). `direct` is
kernel, initrd and command line, which QEMU gives to OVMF, and the root on a disk (carrier `disk`).
Each has its own expected command line in its own initrd. `measured_boot` predicts what a boot
measures.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from ccinit.formats.cmdline import MAX_BYTES, Carrier, RootLocation
from measured_boot.command_line.files import write_whole
from measured_boot.image.uki import OS_RELEASE, UkiParts, plan_ukify
from measured_boot.image.verity import VerityDisk, append_hash_tree
from measured_boot.tpm.direct_line import line_of_kernel
from rootfs_builder.exclusive import exclusive
from rootfs_builder.guest_image.baseline import require_baseline
from rootfs_builder.guest_image.erofs import make_erofs
from rootfs_builder.guest_image.inputs import digest_inputs
from rootfs_builder.guest_image.place import put_in_place
from rootfs_builder.guest_image.python_modules import (
    compile_root_modules,
    compile_stage0_modules,
    prepare_site,
)
from rootfs_builder.guest_image.report import Origin, encode_report, read_current
from rootfs_builder.guest_image.root_tree import members_of, plan_interpreter, plan_root, write_tree
from rootfs_builder.guest_image.stage0_archive import (
    compress,
    compression_key,
    encode_stage0,
    join_initrd,
)
from rootfs_builder.guest_image.suitability import STUB, plan_module_orders, require_suitable
from rootfs_builder.packages.lock import PackageLock
from rootfs_builder.packages.mkosi import read_command_line
from rootfs_builder.packages.quarry import Quarry
from rootfs_builder.packages.source import PackageSource, read_lock
from rootfs_builder.packages.wheels import fetch_wheels
from rootfs_builder.workspace import DEBUG_TOOLS_LIST, Workspace

PROFILES: Final = ("prod", "test")
_COMPILER: Final = "rootfs_builder.guest_image.module_compiler"
_MIB: Final = 1 << 20
# A build fails if one of its parts is larger.
MAX_ROOT_BYTES: Final = 27 * _MIB
MAX_STAGE0_BYTES: Final = 6 * _MIB
MAX_UKI_BYTES: Final = 45 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class _Root:
    image: bytes
    disk: VerityDisk


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBuild:
    """One call of the builder.

    Attributes:
        packages: where packages come from, and which are acceptable.
        output: folder for published files.
    """

    packages: PackageSource
    output: Path

    @property
    def workspace(self) -> Workspace:
        """The repository."""
        return self.packages.workspace

    def run(self, profiles: Iterable[str]) -> tuple[Path, ...]:
        """Build all profiles that are not up to date and return their reports.

        Raises:
            ConfigError: a tool failed, a part is too large, or a release would not be as locked.
        """
        with exclusive(self.workspace.image_lock, self.packages.progress):
            lock = read_lock(self.workspace)
            return tuple(self._build_if_outdated(profile, lock) for profile in profiles)

    def _say(self, text: str) -> None:
        self.packages.progress.say(text)

    def _require_budget(self, what: str, size: int, limit: int) -> None:
        if self.workspace.project is None:  # a project's owner may make it as large as they like
            require_budget(what, size, limit)

    def _build_if_outdated(self, profile: str, lock: PackageLock) -> Path:
        inputs = digest_image_inputs(self.workspace, profile)
        report = self.output / f"ccinit-{profile}.json"
        current = read_current(report, inputs)
        if current is None:
            self._build(profile, inputs, lock)
        else:
            self._say(f"{profile}: up to date")
            self.packages.judge(tuple(current["differences"]))
        return report

    def _build(self, profile: str, inputs: str, lock: PackageLock) -> None:
        quarry, differences = self.packages.open(lock)
        wheels = fetch_wheels(
            self.workspace.guest_requirements,
            self.workspace.wheel_cache,
            offline=self.packages.offline,
        )
        origin = Origin(
            inputs=inputs,
            kernel_release=quarry.kernel_release,
            packages=quarry.packages,
            wheels=tuple(wheel.name for wheel in wheels),
            differences=differences,
        )
        base = read_command_line(self.workspace, self.packages.tools, profile)
        require_suitable(self.workspace, quarry, base)
        self._say(f"{profile}: choosing and compiling Python modules")
        site = prepare_site(self.workspace, wheels, profile)
        root = self._make_root(quarry, site, profile, lock)
        stage0 = self._make_stage0(quarry, site, profile)
        partial = self.workspace.staging / f"image-{profile}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        on_disk = RootLocation(carrier=Carrier.DISK, verity=root.disk.parameters)
        lines = {
            "uki": command_line(base, RootLocation(carrier=Carrier.RAM)),
            "direct": command_line(base, on_disk),
        }
        stem = partial / f"ccinit-{profile}"
        write_direct_boot(quarry, stem, root.disk, stage0, lines["direct"])
        self._make_uki(quarry, stem, lines["uki"], join_initrd(stage0, lines["uki"], root.image))
        files = tuple(partial.iterdir())
        text = encode_report(profile, origin, root.disk.parameters, lines, files)
        (partial / f"ccinit-{profile}.json").write_text(text)
        self._publish(partial, profile)

    def _make_root(self, quarry: Quarry, site: Path, profile: str, lock: PackageLock) -> _Root:
        modules = compile_root_modules(self.workspace, quarry.tree, site)
        tree = plan_root(
            quarry,
            self.workspace.read_list("programs.list"),
            modules,
            lock.date,
            self.workspace.read_list("files.list"),
        )
        require_baseline("root", members_of(tree))
        folder = self.workspace.staging / f"root-{profile}"
        write_tree(tree, folder)
        self._say(f"{profile}: compressing the root ({len(modules)} Python modules)")
        image = make_erofs(quarry.tree, folder, folder.with_suffix(".erofs"))
        self._require_budget("root", len(image), MAX_ROOT_BYTES)
        return _Root(image=image, disk=append_hash_tree(image))

    def _make_stage0(self, quarry: Quarry, site: Path, profile: str) -> bytes:
        interpreter = plan_interpreter(
            quarry, compile_stage0_modules(self.workspace, quarry.tree, site)
        )
        require_baseline("stage 0", members_of(interpreter))
        orders = plan_module_orders(self.workspace, quarry)
        contents = {
            module: module.decompress(quarry.read(f"{quarry.modules}/{module.path}"))
            for groups in orders.values()
            for module in chain.from_iterable(groups)
        }
        archive = encode_stage0(interpreter, orders, contents)
        # Compressing takes long, and both profiles have the same archive unless stage 0 differs.
        cached = self.workspace.staging / f"stage0-{compression_key(quarry, archive)}.zst"
        if not cached.is_file():
            self._say(f"{profile}: compressing stage 0 ({len(contents)} kernel modules)")
            for old in self.workspace.staging.glob("stage0-*.zst"):
                old.unlink()
            write_whole(cached, compress(quarry, archive))  # its content is not checked again
        packed = cached.read_bytes()
        self._require_budget("stage 0", len(packed), MAX_STAGE0_BYTES)
        return packed

    def _make_uki(self, quarry: Quarry, stem: Path, line: str, initrd: bytes) -> None:
        parts = self.workspace.staging / f"uki-{stem.name}"
        parts.mkdir(exist_ok=True)
        (parts / "initrd").write_bytes(initrd)
        (parts / "cmdline").write_text(line)
        (parts / "os-release").write_text(OS_RELEASE)
        output = stem.with_suffix(".efi")
        command = plan_ukify(
            UkiParts(
                stub=STUB,
                kernel=stem.with_suffix(".vmlinuz"),
                kernel_release=quarry.kernel_release,
                os_release=parts / "os-release",
                command_line=parts / "cmdline",
                initrd=parts / "initrd",
            ),
            output,
        )
        self._say(f"{stem.name}: joining the UKI")
        quarry.tree.run(command, directories=(self.workspace.staging,))
        self._require_budget("UKI", output.stat().st_size, MAX_UKI_BYTES)

    def _publish(self, partial: Path, profile: str) -> None:
        """Move finished files in place; the report comes last, since it vouches for the others.

        If that is interrupted, or power is lost, the others do not match the old report, and the
        next build makes them again.
        """
        report = self.output / f"ccinit-{profile}.json"
        files = sorted(partial.iterdir(), key=lambda path: path.name == report.name)
        put_in_place(files, self.output)
        partial.rmdir()
        self._say(f"{profile}: done, {report}")


def command_line(base: str, location: RootLocation) -> str:
    """Return the whole command line of a boot path.

    Raises:
        ConfigError: the kernel would cut it.
    """
    line = f"{base} {location.to_tokens()}"
    if len(line) >= MAX_BYTES:
        detail = f"the command line has {len(line)} bytes, the kernel takes {MAX_BYTES - 1}"
        raise ConfigError("cmdline.length", detail)
    return line


def require_budget(what: str, size: int, limit: int) -> None:
    """Refuse a part that has grown beyond its budget.

    Raises:
        ConfigError: it has.
    """
    if size > limit:
        raise ConfigError("image.budget", f"{what}: expected at most {limit} bytes, found {size}")


def write_direct_boot(
    quarry: Quarry, stem: Path, disk: VerityDisk, stage0: bytes, line: str
) -> None:
    """Write what a direct boot needs: kernel, initrd, command line, root disk."""
    kernel = quarry.read(f"{quarry.modules}/vmlinuz")
    stem.with_suffix(".vmlinuz").write_bytes(kernel)
    initrd = join_initrd(stage0, line_of_kernel(line))
    stem.with_suffix(".direct.initrd").write_bytes(initrd)
    stem.with_suffix(".direct.cmdline").write_text(line)
    stem.with_suffix(".root.erofs").write_bytes(disk.data)


def digest_image_inputs(workspace: Workspace, profile: str) -> str:
    """Return one digest over everything that decides the result.

    That includes the builder's own code, as far as this module imports or starts it.
    """
    files = {
        workspace.repository / "mkosi.conf",
        workspace.guest_requirements,
        workspace.package_lock,
        *workspace.project_files(),
    }
    for folder in (workspace.guest_sources, workspace.lists):
        files.update(path for path in folder.rglob("*") if path.is_file())
    files.discard(workspace.lists / DEBUG_TOOLS_LIST)
    return digest_inputs(workspace, profile, files, (__name__, _COMPILER))
