"""Every digest is compared with that of `sev-snp-measure`, which is written by others."""

from functools import partial
from pathlib import Path

import pytest
from sevsnpmeasure.guest import calc_launch_digest  # type: ignore[import-untyped]
from sevsnpmeasure.sev_mode import SevMode  # type: ignore[import-untyped]

from ccinit.errors import ConfigError
from measured_boot.sev.cpu_models import CPU_MODELS, find_signature
from measured_boot.sev.firmware import SevFirmware, parse_sev_firmware
from measured_boot.sev.kernel_hashes import hash_kernel_files
from measured_boot.sev.launch import (
    Processors,
    sev_es_launch_digest,
    sev_launch_digest,
    snp_launch_digest,
)
from tests.fakes.platforms.firmware import KERNEL_HASHES, SNP_PAGES, VERIFIER, FakeFirmware

KERNEL, INITRD, LINE = b"kernel" * 1000, b"initrd" * 999, "quiet oops=panic"
HASHES = hash_kernel_files(KERNEL, INITRD, LINE)
DEFAULT = FakeFirmware()
# Another size, hash area at another place in its page, list in another order, more memory.
OTHER = FakeFirmware(
    size=0x20000,
    reset_address=0x12345678,
    hash_area=(0x810000, 0x400),
    pages=(*reversed(SNP_PAGES), (0x900000, 0x40000, 1)),
)


def parse(fake: FakeFirmware) -> SevFirmware:
    return parse_sev_firmware(fake.to_bytes())


def processors(count: int = 1, model: str = "EPYC-v4", features: int = 1) -> Processors:
    return Processors(count=count, signature=find_signature(model), features=features)


def measure_with_the_other_program(
    folder: Path,
    mode: SevMode,
    given: Processors,
    fake: FakeFirmware = DEFAULT,
    initrd: bytes = INITRD,
    line: str = LINE,
) -> bytes:
    for name, data in (("ovmf", fake.to_bytes()), ("kernel", KERNEL), ("initrd", initrd)):
        (folder / name).write_bytes(data)
    paths = (f"{folder}/ovmf", f"{folder}/kernel", f"{folder}/initrd")
    digest = calc_launch_digest(mode, given.count, given.signature, *paths, line, given.features)
    assert isinstance(digest, bytes)
    return digest


@pytest.mark.parametrize("fake", [DEFAULT, OTHER], ids=["default", "other"])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("features", [1, 0x21])
def test_snp_by_firmware_processors_and_features(
    tmp_path: Path, fake: FakeFirmware, count: int, features: int
) -> None:
    given = processors(count, features=features)
    theirs = measure_with_the_other_program(tmp_path, SevMode.SEV_SNP, given, fake)
    assert snp_launch_digest(parse(fake), given, HASHES) == theirs


@pytest.mark.parametrize("model", CPU_MODELS)
def test_snp_and_sev_es_by_model(tmp_path: Path, model: str) -> None:
    given = processors(2, model)
    firmware = parse(DEFAULT)
    snp = measure_with_the_other_program(tmp_path, SevMode.SEV_SNP, given)
    es = measure_with_the_other_program(tmp_path, SevMode.SEV_ES, given)
    assert snp_launch_digest(firmware, given, HASHES) == snp
    assert sev_es_launch_digest(firmware, given, HASHES) == es


@pytest.mark.parametrize(
    ("initrd", "line"), [(b"", LINE), (INITRD, ""), (b"\0", "x"), (b"i" * 4096, "a " * 1000 + "b")]
)
@pytest.mark.parametrize("mode", [SevMode.SEV, SevMode.SEV_ES, SevMode.SEV_SNP])
def test_every_mode_by_initrd_and_command_line(
    tmp_path: Path, mode: SevMode, initrd: bytes, line: str
) -> None:
    given, firmware = processors(3), parse(DEFAULT)
    hashes = hash_kernel_files(KERNEL, initrd, line)
    ours = {
        SevMode.SEV: sev_launch_digest(firmware, hashes),
        SevMode.SEV_ES: sev_es_launch_digest(firmware, given, hashes),
        SevMode.SEV_SNP: snp_launch_digest(firmware, given, hashes),
    }
    theirs = measure_with_the_other_program(tmp_path, mode, given, initrd=initrd, line=line)
    assert ours[mode] == theirs


def test_snp_recorded_vector() -> None:
    """Recorded once from both programs, so that a change of both is seen."""
    digest = snp_launch_digest(parse(DEFAULT), processors(2), HASHES)
    assert digest.hex() == RECORDED


RECORDED = (
    "3cfe6dc43199fdda23b01e87574a0acb42401d692066a93d"
    "636a66476caffc49f8fb5bb17c3e727a27384ef0ae23e2cd"
)


@pytest.mark.parametrize(
    ("fake", "count", "reason"),
    [
        (FakeFirmware(pages=None), 1, "launch.firmware"),
        (FakeFirmware(hash_area=None), 1, "launch.kernel_hashes"),
        (FakeFirmware(hash_area=(0, 0)), 1, "launch.kernel_hashes"),
        (
            FakeFirmware(pages=[row for row in SNP_PAGES if row[2] != KERNEL_HASHES]),
            1,
            "launch.kernel_hashes",
        ),
        (FakeFirmware(hash_area=(0x80FFF0, 0x400)), 1, "launch.kernel_hashes"),
        (FakeFirmware(hash_area=(0x810F51, 0x400)), 1, "launch.kernel_hashes"),
        (FakeFirmware(pages=[(0x810000, 0x2000, KERNEL_HASHES)]), 1, "launch.kernel_hashes"),
        (FakeFirmware(verifier=b"".join(VERIFIER[:2])), 1, "launch.kernel_hashes"),
        (FakeFirmware(reset_address=None), 2, "launch.reset_address"),
    ],
)
def test_snp_refuses(fake: FakeFirmware, count: int, reason: str) -> None:
    assert snp_launch_digest(parse(DEFAULT), processors(count), HASHES)
    with pytest.raises(ConfigError) as error:
        snp_launch_digest(parse(fake), processors(count), HASHES)
    assert error.value.reason == reason


def test_one_processor_needs_no_reset_address() -> None:
    firmware = parse(FakeFirmware(reset_address=None))
    assert snp_launch_digest(firmware, processors(), HASHES)


@pytest.mark.parametrize(
    "fake",
    [
        pytest.param(FakeFirmware(hash_area=(0, 0)), id="no hash area"),
        pytest.param(FakeFirmware(verifier=b""), id="a hash area that nobody looks at"),
    ],
)
def test_sev_and_sev_es_refuse_firmware_that_checks_no_kernel(fake: FakeFirmware) -> None:
    assert sev_launch_digest(parse(DEFAULT), HASHES)
    firmware = parse(fake)
    for predict in (
        partial(sev_launch_digest, firmware, HASHES),
        partial(sev_es_launch_digest, firmware, processors(), HASHES),
    ):
        with pytest.raises(ConfigError) as error:
            predict()
        assert error.value.reason == "launch.kernel_hashes"


@pytest.mark.parametrize(
    ("count", "features", "reason"),
    [
        (0, 1, "launch.vcpus"),
        (513, 1, "launch.vcpus"),
        (1, 0, "launch.features"),
        (1, 0x20, "launch.features"),
        (1, (1 << 64) | 1, "launch.features"),
    ],
)
def test_processors_refuses(count: int, features: int, reason: str) -> None:
    with pytest.raises(ConfigError) as error:
        processors(count, features=features)
    assert error.value.reason == reason
