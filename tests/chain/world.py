"""Everything outside the guest: image, registry, owner and the machine's disks, made once.

The demo, the benchmarks and the tests use the same world, so what the demo shows is tested.
"""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ccinit.formats.evidence.tee import Tee
from ccinit.formats.oci.layer_encryption import ImageEncryption
from ccinit.formats.planes.owner_rpc import ClientRole
from guest_owner.kbs.references.values import encode_reference_set
from host_runtime.commands.boot_plan import ovmf
from host_runtime.launch.launcher import GuestConfig
from host_runtime.machine.accelerator import choose_accelerator
from host_runtime.machine.disks import create_sparse_disk
from host_runtime.machine.esp import create_esp
from host_runtime.machine.qemu import (
    Disk,
    EspBoot,
    GuestForward,
    HostForward,
    UserNetwork,
)
from host_runtime.machine.swtpm import VirtualTpm, manufacture_tpm
from host_runtime.programs.tools import Tools
from host_runtime.relay.forward import forward_command
from tests.chain import pod
from tests.chain.labels import label_image, read_config
from tests.chain.parties import Owner, make_log_key, random_secret, run
from tests.chain.platforms import TrustedPlatform
from tests.chain.show import Show
from tests.integration.free_ports import free_ports
from tests.integration.pull.real_registry import Registry, make_authority, running_registry

IMAGES = Path("build/image")
DEBUG_TOOLS = IMAGES / "ccinit-debug-tools.verity"
DEBUG_TOOLS_DESCRIPTION = DEBUG_TOOLS.with_suffix(".json")
_MEMORY_MIB = 512
_IMAGE_BUILDER = ("rootfs-builder", "container-image")
_LABELLED = "container-image-labelled"
_ENCRYPTION = "container-image.out"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What exists before a guest boots.

    Attributes:
        kbs: what runs the KBS; to be closed by whoever takes it away, and entered to bring it back.
        image_digest: of the container image in the registry.
        image_bytes: its size there.
        initdata: path of the document.
        reference: file of what the image is expected to measure.
        tpms: registered, the first for guests that run one after the other; none where the
            platform is no TPM.
    """

    folder: Path
    tools: Tools
    platform: TrustedPlatform
    owner: Owner
    kbs: ExitStack
    kbs_port: int
    registry: Registry
    image_digest: str
    image_bytes: int
    canaries: pod.Canaries
    initdata: Path
    reference: Path
    tpms: tuple[VirtualTpm, ...]

    @property
    def image_config(self) -> bytes:
        """The container image's config, as its registry has it."""
        return read_config(self.folder / _LABELLED)

    @property
    def initdata_disk(self) -> Path:
        """The disk that carries the document."""
        return self.initdata.with_suffix(".img")

    @property
    def volume(self) -> Path:
        """The persistent volume's disk, as the host keeps it from boot to boot."""
        return self.folder / "volume.img"

    def guest(
        self,
        name: str,
        *,
        uki: Path,
        initdata_disk: Path | None = None,
        variables: Path | None = None,
        spare: int | None = None,
        bound: Path | None = None,
    ) -> GuestConfig:
        """Describe a guest; its folder is `name`, its scratch disk is new.

        Args:
            name: folder below the world's.
            uki: what firmware boots.
            initdata_disk: in place of the world's.
            variables: EFI variables to start with, in place of pristine ones.
            spare: 1 or more for a guest that may run beside the first: it gets the vTPM of that
                number and a copy of the volume.
            bound: the document that the host binds at launch, in place of the world's.
        """
        folder = self.folder / name
        folder.mkdir()
        esp = create_esp(self.tools, uki, folder.with_name(f"{name}.esp.img"))
        scratch = create_sparse_disk(folder.with_name(f"{name}.scratch.img"), pod.SCRATCH_BYTES)
        volume = self.volume
        if spare is not None:
            volume = copy_disk(volume, folder.with_name(f"{name}.volume.img"))
        port, owner_port = free_ports(2)
        pristine = ovmf(self.tools)
        return GuestConfig(
            tools=self.tools,
            folder=folder,
            boot=EspBoot(image=esp),
            accelerator=choose_accelerator(self.tools),
            memory_mib=_MEMORY_MIB,
            firmware=pristine if variables is None else replace(pristine, variables=variables),
            disks=(
                Disk(path=initdata_disk or self.initdata_disk, serial="initdata",
                     is_read_only=True),
                Disk(path=scratch, serial="scratch"),
                Disk(path=volume, serial="data"),
                Disk(path=DEBUG_TOOLS.absolute(), serial="tools", is_read_only=True),
            ),
            network=UserNetwork(
                host_forwards=(
                    HostForward(host_port=port, guest_port=pod.SERVICE_PORT),
                    HostForward(host_port=owner_port, guest_port=pod.OWNER_PORT),
                ),
                guest_forwards=(
                    _forward(pod.KBS_ADDRESS, pod.KBS_PORT, self.kbs_port),
                    _forward(pod.REGISTRY_ADDRESS, pod.REGISTRY_PORT, self.registry.port),
                ),
            ),
            tpm=self.tpms[spare or 0] if self.tpms else None,
            serial_number=self.platform.serial_number(bound or self.initdata),
        )  # fmt: skip


def copy_disk(disk: Path, copy: Path) -> Path:
    """Copy a disk image with its holes: what is not there takes no room and is not searched."""
    subprocess.run(("cp", "--sparse=always", disk, copy), check=True)
    return copy


def _forward(address: str, port: int, host_port: int) -> GuestForward:
    return GuestForward(address=address, port=port, command=forward_command("127.0.0.1", host_port))


@contextmanager
def make_world(
    folder: Path,
    show: Show,
    *,
    platform: TrustedPlatform = TrustedPlatform.TPM,
    spare_tpms: int = 0,
    layout: Path | None = None,
    encryption: ImageEncryption = ImageEncryption.NONE,
    edit_pod: pod.Edit = pod.leave,
    edit_config: pod.Edit = pod.leave,
) -> Iterator[World]:
    """Set the scene: registry with an image, KBS with registrations, disks, vTPMs.

    Args:
        folder: where all of it goes; made if absent.
        show: told of every step.
        platform: that the guests will have.
        spare_tpms: for guests that run beside the first.
        layout: of the container image, if it is made already.
        encryption: of its layers in the registry, `NONE` or `REQUIRED`.
        edit_pod: makes another `pod.toml` of the demo's.
        edit_config: makes another `ccinit.toml`.
    """
    tools = Tools(tree=Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute())
    with ExitStack() as stack:
        canaries = make_canaries()
        show.title("2  A container image in a registry")
        registry, digest, size = stack.enter_context(
            serve_image(folder, show, canaries.label, layout, encryption)
        )
        show.title("3  The owner's Key Broker Service, and what it may release to whom")
        owner = Owner(folder=folder)
        with show.step("owner", "make keys and write the pod down"):
            manifest = pod.pod_toml(
                digest=digest,
                registry_ca_pem=registry.authority.ca_pem,
                canaries=canaries,
                encryption=encryption.value,
            )
            config = make_config(owner, canaries.comment)
            initdata = write_initdata(
                owner, edit_config(config, canaries), edit_pod(manifest, canaries), platform.tee
            )
        has_tpms = platform is TrustedPlatform.TPM
        tpms = make_tpms(tools, folder, show, 1 + spare_tpms) if has_tpms else ()
        with show.step("owner", "register what may run and what it may have"):
            reference = register_platform(owner, platform, tpms)
            register(owner, initdata, canaries, platform.profile)
        with show.step("owner", "start the KBS with TLS on loopback"):
            kbs = stack.enter_context(ExitStack())
            kbs_port = kbs.enter_context(owner.serving())
        create_sparse_disk(folder / "volume.img", pod.VOLUME_BYTES)
        yield World(
            folder=folder,
            tools=tools,
            platform=platform,
            owner=owner,
            kbs=kbs,
            kbs_port=kbs_port,
            registry=registry,
            image_digest=digest,
            image_bytes=size,
            canaries=canaries,
            initdata=initdata,
            reference=reference,
            tpms=tpms,
        )


@contextmanager
def serve_image(
    folder: Path, show: Show, label: str, layout: Path | None, encryption: ImageEncryption
) -> Iterator[tuple[Registry, str, int]]:
    """Serve a new registry with the container image; yields its digest and size besides."""
    with ExitStack() as stack:
        with show.step("builder", "start a registry with TLS on loopback"):
            names = ("localhost", pod.REGISTRY_ADDRESS)
            authority = make_authority(folder / "registry-tls", names=names)
            registry = stack.enter_context(running_registry(folder / "registry", authority))
        with show.step("builder", "make a container image from Debian packages and push it"):
            image = layout or build_image(folder / "container-image")
            digest, size = push_image(image, folder, registry, label, encryption)
        show.say("builder", f"{digest}, {size / 1e6:.0f} MB in the registry")
        yield registry, digest, size


def make_tpms(tools: Tools, folder: Path, show: Show, count: int) -> tuple[VirtualTpm, ...]:
    """Make vTPMs, in the folders `tpm0`, `tpm1` and so on."""
    with show.step("host", f"make {count} vTPMs"):
        return tuple(manufacture_tpm(tools, folder / f"tpm{number}") for number in range(count))


def make_canaries() -> pod.Canaries:
    """Make texts that nobody has used before."""
    return pod.Canaries(
        comment=random_secret().decode(),
        label=random_secret().decode(),
        secret=random_secret().decode(),
        env=random_secret().decode(),
        file_name=random_secret().decode(),
        container=random_secret().decode(),
    )


def build_image(layout: Path) -> Path:
    """Build the container image, without a label; return its layout."""
    command = (*_IMAGE_BUILDER, "demo", layout, *_tools())
    run("builder", *command, remedy="is the package archive of /etc/apt reachable?")
    return layout


def push_image(
    layout: Path, folder: Path, registry: Registry, label: str, encryption: ImageEncryption
) -> tuple[str, int]:
    """Label and push the container image; return its digest and its size in bytes."""
    image = label_image(layout, label, folder / _LABELLED)
    target = f"docker://{registry.host}/{pod.REPOSITORY}"
    how: tuple[str | Path, ...] = ("push",)
    if encryption is ImageEncryption.REQUIRED:
        keys = ("--recipient", pod.IMAGE_KEY_URI, "--output", folder / _ENCRYPTION)
        how = ("encrypt", *keys)
    command = (*_IMAGE_BUILDER, *how, f"oci:{image.layout}", target, *_tools())
    pushed = run(
        "builder",
        *command,
        *("--ca", registry.authority.ca),
        remedy="the registry's log is beside its storage",
    )
    return pushed.split()[-1].rpartition("@")[2], image.bytes


def _tools() -> tuple[str, str]:
    return "--tools", os.environ.get("CCINIT_TOOLS", "build/tools")


def make_config(owner: Owner, comment: str) -> str:
    """Make the KBS's state and the log key; return the `ccinit.toml` that names them."""
    owner.run("kbs", "init", "--state", owner.state, "--name", pod.KBS_ADDRESS)
    log_public_key = make_log_key(owner, owner.log_key)
    ca_pem = (owner.state / "ca.pem").read_text()
    owner.run("client-ca", "init", "--state", owner.state)
    return pod.ccinit_toml(
        kbs_ca_pem=ca_pem,
        log_public_key=log_public_key,
        client_ca_pem=(owner.state / "owner-ca.pem").read_text(),
        debug_tools=owner.run("debug", "tools", DEBUG_TOOLS_DESCRIPTION),
        comment=comment,
    )


def write_initdata(owner: Owner, ccinit_toml: str, pod_toml: str, tee: Tee) -> Path:
    """Write both files and the initdata document with its disk."""
    config, manifest = owner.folder / "ccinit.toml", owner.folder / "pod.toml"
    config.write_text(ccinit_toml)
    manifest.write_text(pod_toml)
    return pack_initdata(owner, config, manifest, owner.folder / "initdata.toml", tee)


def pack_initdata(owner: Owner, config: Path, manifest: Path, document: Path, tee: Tee) -> Path:
    """Join both files to a document; its disk gets the same name with `.img`."""
    owner.run(
        *("initdata", "make", "--config", config, "--pod", manifest, "--platform", tee.value),
        *("--output", document, "--disk-image", document.with_suffix(".img")),
    )
    return document


def predict(uki: Path, output: Path) -> Path:
    """Write the registers that booting `uki` will leave to `output`, as a reference value file."""
    run(
        "builder",
        *("measured-boot", "predict", uki, "--name", "demo", "--output", output),
        remedy="run `make image` first",
    )
    return output


def register_platform(owner: Owner, platform: TrustedPlatform, tpms: Sequence[VirtualTpm]) -> Path:
    """Register what the image measures and who signs for it; return the reference value file."""
    state = ("--state", owner.state)
    reference = owner.folder / "reference.json"
    simulation = platform.simulation
    if simulation is None:
        predict(IMAGES / platform.uki, reference)
        for number, tpm in enumerate(tpms):
            key = owner.folder / f"ak{number}.der"
            key.write_bytes(tpm.ak_public_der())
            owner.run("register", "ak", key, *state)
    else:
        reference.write_bytes(encode_reference_set(simulation.reference))
        of_platform = ("--platform", simulation.tee.value, *state)
        if simulation.roots is not None:
            owner.run("register", "root", simulation.roots, *of_platform)
        if simulation.requirements:
            requirements = owner.folder / "requirements.toml"
            requirements.write_text(simulation.requirements)
            owner.run("register", "requirements", requirements, *of_platform)
    owner.run("register", "reference", reference, *state)
    return reference


def register(owner: Owner, initdata: Path, canaries: pod.Canaries, profile: str) -> None:
    """Register the document, the resources, and the policy."""
    state = ("--state", owner.state)
    owner.run("register", "initdata", initdata, "--name", "demo", *state)
    owner.register_resource(pod.SECRET_URI, canaries.secret.encode(), "file")
    owner.register_resource(pod.VOLUME_KEY_URI, os.urandom(64), "volume-key", "--create")
    owner.log_psk.write_bytes(os.urandom(32))
    owner.register_resource(pod.LOG_PSK_URI, owner.log_psk.read_bytes(), "log-psk")
    image_key = owner.folder / _ENCRYPTION / "keys" / pod.IMAGE_KEY_URI.removeprefix("kbs:///")
    if image_key.exists():
        owner.register_resource(pod.IMAGE_KEY_URI, image_key.read_bytes(), "image-key")
    register_owner_plane(owner)
    owner.run(
        *("policy", "allow", "ccinit/demo/*", "--initdata", "demo", "--reference", "demo"),
        *("--profile", profile),
        *state,
    )


def register_owner_plane(owner: Owner) -> None:
    """Let the KBS make TLS identities, and make a client certificate of each role."""
    state = ("--state", owner.state)
    owner.run("register", "tls-identity", pod.TLS_IDENTITY_URI, *state)
    for role in ClientRole:
        owner.run(
            *("client-cert", "new", f"demo {role}", "--role", role.value),
            *("--output", owner.client(role), *state),
        )
