import pytest

from ccinit.errors import FormatError, VerificationError
from ccinit.formats.cmdline import Carrier, RootLocation, parse_root_location, verify_cmdline
from ccinit.formats.disk.verity import RootHash, Salt, VerityParameters

VERITY = VerityParameters(
    root_hash=RootHash(b"\x12" * 32), salt=Salt(b"\x34" * 32), data_blocks=15_000
)
TOKENS = f"ccinit.carrier=disk ccinit.root={'12' * 32} ccinit.salt={'34' * 32} ccinit.blocks=15000"
LINE = f"console=ttynull quiet loglevel=0 {TOKENS} initrd=initrd"


def test_disk_location_is_parsed_among_other_words() -> None:
    assert parse_root_location(LINE) == RootLocation(carrier=Carrier.DISK, verity=VERITY)


def test_ram_location_is_parsed() -> None:
    line = "quiet ccinit.carrier=ram panic=-1"
    assert parse_root_location(line) == RootLocation(carrier=Carrier.RAM)


@pytest.mark.parametrize(
    "location",
    [
        pytest.param(RootLocation(carrier=Carrier.DISK, verity=VERITY), id="disk"),
        pytest.param(RootLocation(carrier=Carrier.RAM), id="ram"),
    ],
)
def test_location_survives_its_own_tokens(location: RootLocation) -> None:
    assert parse_root_location(location.to_tokens()) == location


def test_tokens_are_as_documented() -> None:
    assert RootLocation(carrier=Carrier.DISK, verity=VERITY).to_tokens() == TOKENS


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        pytest.param("carrier=disk", "carrier=nfs", "cmdline.carrier", id="unknown-carrier"),
        pytest.param("carrier=disk", "carrier=ram", "cmdline.unknown", id="ram-with-root-hash"),
        pytest.param("ccinit.carrier=disk ", "", "cmdline.missing", id="no-carrier"),
        pytest.param("carrier=disk", "carrier", "cmdline.carrier", id="carrier-without-value"),
        pytest.param("root=12", "root=1", "cmdline.hex", id="short-root"),
        pytest.param("root=12", "root=AB", "cmdline.hex", id="upper-case-root"),
        pytest.param("root=1", "root= 1", "cmdline.hex", id="split-root"),
        pytest.param("salt=34", "salt=0x", "cmdline.hex", id="prefixed-salt"),
        pytest.param("blocks=15000", "blocks=015000", "cmdline.blocks", id="leading-zero"),
        pytest.param("blocks=15000", "blocks=-1", "cmdline.blocks", id="negative-blocks"),
        pytest.param("blocks=15000", "blocks=1", "verity.blocks", id="one-block"),
        pytest.param("blocks=15000", "blocks=\u0663", "cmdline.blocks", id="foreign-digit"),
        pytest.param("blocks=15000", "blocks=99999999999", "cmdline.blocks", id="huge-blocks"),
        pytest.param("quiet", "ccinit.debug=1", "cmdline.unknown", id="unknown-word"),
        pytest.param("quiet", "ccinit.carrier=disk", "cmdline.duplicate", id="word-twice"),
    ],
)
def test_location_with_wrong_word_is_refused(old: str, new: str, reason: str) -> None:
    assert parse_root_location(LINE).carrier is Carrier.DISK
    assert LINE.replace(old, new, 1) != LINE
    with pytest.raises(FormatError) as error:
        parse_root_location(LINE.replace(old, new, 1))
    assert error.value.reason == reason


def test_location_of_disk_without_hash_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        RootLocation(carrier=Carrier.DISK)
    assert error.value.reason == "cmdline.carrier"


def test_cmdline_equal_but_for_the_kernels_newline_is_returned() -> None:
    assert verify_cmdline(LINE.encode() + b"\n", LINE.encode()) == LINE


@pytest.mark.parametrize(
    "actual",
    [
        pytest.param(LINE + " rdinit=/bin/sh", id="word-added"),
        pytest.param(LINE + " ", id="space-added"),
        pytest.param("  " + LINE, id="space-in-front"),
        pytest.param(LINE + "\n", id="second-newline"),
        pytest.param(LINE.replace("quiet ", ""), id="word-removed"),
        pytest.param(LINE.upper(), id="other-case"),
        pytest.param("", id="empty"),
    ],
)
def test_cmdline_that_differs_is_refused(actual: str) -> None:
    with pytest.raises(VerificationError) as error:
        verify_cmdline(actual.encode() + b"\n", LINE.encode())
    assert error.value.reason == "boot.cmdline"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"x" * 2049, id="as long as the kernel cuts"),
        pytest.param(b"quiet \xff", id="not ASCII"),
    ],
)
def test_cmdline_that_no_image_has_is_refused(line: bytes) -> None:
    with pytest.raises(FormatError) as error:
        verify_cmdline(line + b"\n", line)
    assert error.value.reason == "cmdline.text"
