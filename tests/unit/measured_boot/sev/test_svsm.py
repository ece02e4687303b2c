"""Every digest is compared with that of `sev-snp-measure`, whose own were read from hardware."""

from pathlib import Path

import pytest
from sevsnpmeasure.guest import calc_launch_digest  # type: ignore[import-untyped]
from sevsnpmeasure.sev_mode import SevMode  # type: ignore[import-untyped]

from ccinit.errors import ConfigError, FormatError
from measured_boot.sev.cpu_models import find_signature
from measured_boot.sev.firmware import parse_sev_firmware
from measured_boot.sev.launch import Processors
from measured_boot.sev.svsm import parse_svsm, svsm_launch_digest
from tests.fakes.platforms.firmware import (
    CALLING_AREA,
    CPUID,
    KERNEL_HASHES,
    MEMORY,
    SECRETS,
    SNP_PAGES,
    SVSM_INFO,
    SVSM_PAGES,
    FakeFirmware,
    entry,
    fake_svsm,
)

FIRMWARE = FakeFirmware(verifier=b"").to_bytes()  # the SVSM's TPM measures the kernel
VARIABLES_BYTES = 0x84000
SMALL, LARGE = fake_svsm(), fake_svsm(0x80000, 0x1234, tuple(reversed(SVSM_PAGES)))


def processors(count: int = 1, model: str = "EPYC-v4", features: int = 1) -> Processors:
    return Processors(count=count, signature=find_signature(model), features=features)


def ours(
    svsm: bytes = SMALL,
    given: Processors | None = None,
    firmware: bytes = FIRMWARE,
    variables_bytes: int = VARIABLES_BYTES,
) -> bytes:
    return svsm_launch_digest(
        parse_sev_firmware(firmware), parse_svsm(svsm), given or processors(), variables_bytes
    )


def theirs(
    folder: Path, svsm: bytes, given: Processors, firmware: bytes, variables_bytes: int
) -> bytes:
    (folder / "ovmf").write_bytes(firmware)
    (folder / "svsm").write_bytes(svsm)
    digest = calc_launch_digest(
        SevMode.SEV_SNP_SVSM,
        given.count,
        given.signature,
        f"{folder}/ovmf",
        "",
        "",
        "",
        given.features,
        svsm_file=f"{folder}/svsm",
        ovmf_vars_size=variables_bytes,
    )
    assert isinstance(digest, bytes)
    return digest


@pytest.mark.parametrize("svsm", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("count", [1, 2, 4, 64])
@pytest.mark.parametrize("variables_bytes", [0, 0x1000, VARIABLES_BYTES])
def test_svsm_by_file_processors_and_variables(
    tmp_path: Path, svsm: bytes, count: int, variables_bytes: int
) -> None:
    expected = theirs(tmp_path, svsm, processors(count), FIRMWARE, variables_bytes)
    assert ours(svsm, processors(count), variables_bytes=variables_bytes) == expected


@pytest.mark.parametrize("model", ["EPYC-Rome", "EPYC-Milan", "EPYC-Genoa"])
@pytest.mark.parametrize("size", [0x5000, 0x20000])
def test_svsm_by_model_and_firmware(tmp_path: Path, model: str, size: int) -> None:
    firmware, given = FakeFirmware(size=size).to_bytes(), processors(2, model)
    expected = theirs(tmp_path, SMALL, given, firmware, VARIABLES_BYTES)
    assert ours(given=given, firmware=firmware) == expected


def test_svsm_one_byte_of_either_file_is_noticed() -> None:
    good = ours()
    for position in range(0x400, 0x2000, 97):
        for name, data in (("svsm", SMALL), ("firmware", FIRMWARE)):
            changed = bytearray(data)
            changed[position] ^= 1
            assert ours(**{name: bytes(changed)}) != good  # type: ignore[arg-type]


def test_svsm_recorded_vector() -> None:
    """Recorded once from both programs, so that a change of both is seen."""
    assert ours(given=processors(2)).hex() == RECORDED


RECORDED = (
    "e1c22bc7956c56ae5843f732210b8a1cfe8dfdbb7a1c86e0"
    "da68557ada172a1476e8da44a53a33a9a61e819a9d5b9130"
)


@pytest.mark.parametrize(
    ("svsm", "reason"),
    [
        (b"IGVM" + SMALL[4:], "svsm.igvm"),
        (FIRMWARE, "svsm.table"),
        (SMALL[:-32] + bytes(32 + 4096), "svsm.table"),
        (SMALL[:-1], "firmware.length"),
        (fake_svsm(entry_offset=0x3000), "svsm.entry"),
        (fake_svsm(entry_offset=None, more=entry(SVSM_INFO, b"abc")), "svsm.entry"),
        (fake_svsm(pages=None), "svsm.pages"),
        (fake_svsm(pages=[(0x9000, 0x1000, SECRETS)]), "svsm.pages"),
        (fake_svsm(pages=[(0x9000, 0x1000, CPUID)]), "svsm.pages"),
        (fake_svsm(pages=[*SVSM_PAGES, (0x70000, 0x1000, KERNEL_HASHES)]), "svsm.pages"),
        (fake_svsm(pages=[(0x9001, 0x1000, MEMORY)]), "firmware.metadata"),
    ],
)
def test_parse_svsm_refuses(svsm: bytes, reason: str) -> None:
    assert parse_svsm(SMALL).entry_offset == 0x1000
    with pytest.raises((ConfigError, FormatError)) as error:
        parse_svsm(svsm)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"given": processors(features=0x21)}, "launch.features"),
        ({"variables_bytes": 0x84001}, "launch.variables"),
        ({"variables_bytes": -0x1000}, "launch.variables"),
        ({"variables_bytes": (1 << 32) - 0x6000}, "launch.variables"),
        (
            {
                "firmware": FakeFirmware(
                    pages=[row for row in SNP_PAGES if row[2] != CALLING_AREA]
                ).to_bytes()
            },
            "launch.firmware",
        ),
        ({"firmware": FakeFirmware(pages=None).to_bytes()}, "launch.firmware"),
    ],
)
def test_svsm_launch_digest_refuses(change: dict[str, object], reason: str) -> None:
    assert ours()
    with pytest.raises(ConfigError) as error:
        ours(**change)  # type: ignore[arg-type]
    assert error.value.reason == reason
