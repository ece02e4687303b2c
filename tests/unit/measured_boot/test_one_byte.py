"""One byte of anything that decides what runs changes a value that the appraisal policy compares.

Inputs go the way of the build: the root through its hash tree into the command line (carrier
`disk`), or in front of stage 0 into the initrd (carrier `ram`), on either boot path. A file that
firmware would not load is refused by the prediction, which counts as noticed.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from ccinit.errors import ConfigError, FormatError
from ccinit.formats.cmdline import Carrier, RootLocation
from host_runtime.machine.tee import SnpGuest, TdxGuest
from measured_boot.image.verity import append_hash_tree
from measured_boot.prediction import (
    DirectKernelBoot,
    Machine,
    UkiBoot,
    predict,
    predict_launch,
)
from measured_boot.tpm.direct_line import line_of_kernel
from measured_boot.tpm.pcr import ZERO_PCR, extend
from rootfs_builder.guest_image.build import command_line
from rootfs_builder.guest_image.stage0_archive import join_initrd
from tests.fakes.platforms.firmware import FakeFirmware
from tests.fakes.published.pe_images import OPTIONAL, SECURITY_ENTRY, FakePe, uki_image

POLICY = Path("guest-owner/src/guest_owner/trustee/default_cpu.rego").read_text()
CERTIFICATES = b"signature"
TDX_DIRECT = "tdx_ovmf-2025.02_direct_qemu-10.1"
TDX_UKI = "tdx_ovmf-2025.02_stub-257.13_qemu-10.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything that decides what a guest is."""

    kernel: bytes
    stage0: bytes
    base_line: bytes
    root: bytes
    initdata: bytes
    firmware: bytes = FakeFirmware().to_bytes()


GOOD = Inputs(
    kernel=FakePe(
        sections={".setup": b"setup", ".text": b"kernel" * 50}, certificates=CERTIFICATES
    ).to_bytes(),
    stage0=b"compressed archive" * 9,
    base_line=b"quiet panic=-1 oops=panic",
    root=bytes(range(256)) * 48,
    initdata=b'algorithm = "sha256"\nversion = "0.1.0"\n',
)


def line_and_root(inputs: Inputs, carrier: Carrier) -> tuple[str, bytes]:
    """Return the command line, and the root as far as the initrd has it."""
    base = inputs.base_line.decode("latin-1")
    if carrier is Carrier.RAM:
        return command_line(base, RootLocation(carrier=carrier)), inputs.root
    verity = append_hash_tree(inputs.root).parameters
    return command_line(base, RootLocation(carrier=carrier, verity=verity)), b""


def direct_boot(inputs: Inputs, carrier: Carrier) -> DirectKernelBoot:
    line, root = line_and_root(inputs, carrier)
    initrd = join_initrd(inputs.stage0, line_of_kernel(line), root)
    return DirectKernelBoot(kernel=inputs.kernel, initrd=initrd, command_line=line)


def uki_boot(inputs: Inputs, carrier: Carrier) -> UkiBoot:
    line, root = line_and_root(inputs, carrier)
    sections = {
        ".linux": inputs.kernel,
        ".cmdline": line.encode("latin-1"),
        ".initrd": join_initrd(inputs.stage0, line, root),
    }
    return UkiBoot(uki=uki_image(sections))


def on_tpm(inputs: Inputs, what: UkiBoot | DirectKernelBoot) -> Mapping[str, str]:
    prediction = predict(what)
    registers = ":".join(value.hex() for value in prediction.registers.values())
    return {
        "ccinit_tpm_boot": f"{prediction.platform.boot.value}:{registers}",
        "ccinit_tpm_initdata": extend(ZERO_PCR, hashlib.sha256(inputs.initdata).digest()).hex(),
    }


def on_snp(inputs: Inputs, what: DirectKernelBoot) -> Mapping[str, str]:
    machine = Machine(firmware=inputs.firmware, vcpus=2, cpu_model="EPYC-Milan")
    launch = predict_launch(what, "snp_direct_qemu-10", machine)
    host_data = hashlib.sha256(inputs.initdata).digest()
    return {
        "ccinit_snp_measurement": launch.registers["launch_digest"].hex(),
        "ccinit_initdata_sha256": SnpGuest(host_data=host_data, cpu_model="x").host_data.hex(),
    }


def on_tdx(inputs: Inputs, what: UkiBoot | DirectKernelBoot, platform: str) -> Mapping[str, str]:
    registers = predict_launch(what, platform).registers
    mrconfigid = hashlib.sha384(inputs.initdata).digest()
    return {
        "ccinit_tdx_boot": ":".join(value.hex() for value in registers.values()),
        "ccinit_initdata_sha384": TdxGuest(mrconfigid=mrconfigid).mrconfigid.hex(),
    }


def platforms_of(carrier: Carrier) -> Mapping[str, Callable[[Inputs], Mapping[str, str]]]:
    def uki(inputs: Inputs) -> UkiBoot:
        return uki_boot(inputs, carrier)

    def direct(inputs: Inputs) -> DirectKernelBoot:
        return direct_boot(inputs, carrier)

    return {
        f"tpm-uki-{carrier}": lambda inputs: on_tpm(inputs, uki(inputs)),
        f"tpm-direct-{carrier}": lambda inputs: on_tpm(inputs, direct(inputs)),
        f"snp-{carrier}": lambda inputs: on_snp(inputs, direct(inputs)),
        f"tdx-uki-{carrier}": lambda inputs: on_tdx(inputs, uki(inputs), TDX_UKI),
        f"tdx-direct-{carrier}": lambda inputs: on_tdx(inputs, direct(inputs), TDX_DIRECT),
    }


PLATFORMS = {**platforms_of(Carrier.DISK), **platforms_of(Carrier.RAM)}
MEASURE_AUTHENTICODE = tuple(name for name in PLATFORMS if "direct" in name)


@cache
def values_of_the_untouched(platform: str) -> Mapping[str, str]:
    return PLATFORMS[platform](GOOD)


def noticed(platform: str, name: str, position: int) -> frozenset[str]:
    """Return the policy's values that differ after one byte did; all if the file is refused."""
    data = bytearray(getattr(GOOD, name))
    data[position] ^= 1
    before = values_of_the_untouched(platform)
    try:
        after = PLATFORMS[platform](replace(GOOD, **{name: bytes(data)}))
    except (ConfigError, FormatError):
        return frozenset(before)
    return frozenset(key for key in before if before[key] != after[key])


def positions(name: str) -> range:
    size = len(getattr(GOOD, name))
    return range(0, size, max(1, size // 300))


def unmeasured_of_the_kernel() -> set[int]:
    """Return the bytes that no Authenticode hash covers: checksum, entry, certificates."""
    size = len(GOOD.kernel)
    return {
        *range(OPTIONAL + 64, OPTIONAL + 68),
        *range(SECURITY_ENTRY, SECURITY_ENTRY + 8),
        *range(size - len(CERTIFICATES), size),
    }


def test_every_input_is_here_for_both_carriers_on_both_paths() -> None:
    assert {*Carrier} == {Carrier.DISK, Carrier.RAM}
    assert len(PLATFORMS) == 10


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_value_is_one_that_the_policy_compares(platform: str) -> None:
    asked = set(re.findall(r'query_reference_value\("([a-z0-9_]+)"\)', POLICY))
    assert values_of_the_untouched(platform).keys() <= asked


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", ["stage0", "base_line", "root", "initdata"])
def test_one_byte_is_noticed(platform: str, name: str) -> None:
    assert [place for place in positions(name) if not noticed(platform, name, place)] == []


@pytest.mark.parametrize("platform", PLATFORMS)
def test_one_byte_of_the_kernel_is_noticed(platform: str) -> None:
    exempt = unmeasured_of_the_kernel() if platform in MEASURE_AUTHENTICODE else set()
    places = [place for place in positions("kernel") if place not in exempt]
    assert [place for place in places if not noticed(platform, "kernel", place)] == []


@pytest.mark.parametrize("platform", MEASURE_AUTHENTICODE)
def test_what_authenticode_leaves_out_is_left_out_and_no_more(platform: str) -> None:
    unnoticed = [
        place for place in range(len(GOOD.kernel)) if not noticed(platform, "kernel", place)
    ]
    assert set(unnoticed) <= unmeasured_of_the_kernel()
    assert set(range(OPTIONAL + 64, OPTIONAL + 68)) <= set(unnoticed)


def test_one_byte_of_the_firmware_is_noticed_by_snp() -> None:
    places = positions("firmware")
    assert [place for place in places if not noticed("snp-disk", "firmware", place)] == []


@pytest.mark.parametrize("platform", PLATFORMS)
def test_each_input_is_noticed_where_it_belongs(platform: str) -> None:
    boot, initdata = values_of_the_untouched(platform)
    for name in ("kernel", "stage0", "base_line", "root"):
        assert noticed(platform, name, len(getattr(GOOD, name)) // 2) == {boot}
    assert noticed(platform, "initdata", 5) == {initdata}
