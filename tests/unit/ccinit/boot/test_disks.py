import pytest

from ccinit.boot.disks import assign_scratch, select_candidates, select_held
from ccinit.errors import CcinitError, ConfigError, VerificationError
from ccinit.formats.pod.volume import ScratchProfile, ScratchVolume
from ccinit.kernel.block import BlockDevice

MIB = 1 << 20


def disk(
    name: str,
    size_bytes: int = MIB,
    *,
    serial: str = "",
    read_only: bool = False,
    holders: tuple[str, ...] = (),
) -> BlockDevice:
    return BlockDevice(
        name=name,
        number="254:0",
        size_bytes=size_bytes,
        read_only=read_only,
        serial=serial,
        holders=holders,
    )


def declared(name: str, size_bytes: int) -> ScratchVolume:
    return ScratchVolume(name=name, size_bytes=size_bytes, profile=ScratchProfile.AEAD_RAM)


INITDATA = disk("vda")
ROOT = disk("vdb", 64 * MIB, read_only=True, holders=("dm-0",))
DATA = disk("vdc", 256 * MIB)
CACHE = disk("vdd", 512 * MIB)
VOLUME = disk("vde", 128 * MIB)
ALL = (INITDATA, ROOT, DATA, CACHE, VOLUME)
SCRATCH = (declared("cache", 512 * MIB), declared("data", 256 * MIB))


def test_what_has_no_other_role_is_scratch() -> None:
    scratch = assign_scratch(
        ALL, initdata=INITDATA, root=ROOT, volumes={"keep": VOLUME}, scratch=SCRATCH
    )
    assert scratch == ((SCRATCH[0], CACHE), (SCRATCH[1], DATA))


def test_order_of_disks_does_not_matter() -> None:
    arguments = {
        "initdata": INITDATA,
        "root": ROOT,
        "volumes": {"keep": VOLUME},
        "scratch": SCRATCH,
    }
    assert assign_scratch(ALL[::-1], **arguments) == assign_scratch(ALL, **arguments)  # type: ignore[arg-type]


def test_scratch_disks_of_one_size_are_exchangeable() -> None:
    twins = (disk("vdf"), disk("vdg"))
    wanted = tuple(declared(name, MIB) for name in ("a", "b"))
    scratch = assign_scratch(
        (INITDATA, *twins), initdata=INITDATA, root=None, volumes={}, scratch=wanted
    )
    assert scratch == tuple(zip(wanted, twins, strict=True))


def refused(
    disks: tuple[BlockDevice, ...],
    error_class: type[CcinitError] = VerificationError,
    **changes: object,
) -> str:
    arguments: dict[str, object] = {
        "initdata": INITDATA,
        "root": ROOT,
        "volumes": {"keep": VOLUME},
        "scratch": SCRATCH,
    }
    with pytest.raises(error_class) as error:
        assign_scratch(disks, **{**arguments, **changes})  # type: ignore[arg-type]
    return error.value.reason


def test_disk_without_role_is_refused() -> None:
    assert refused((*ALL, disk("vdf"))) == "disk.surplus"


def test_second_disk_of_a_declared_size_is_refused() -> None:
    assert refused((*ALL, disk("vdf", 256 * MIB))) == "disk.surplus"


def test_r36_absent_scratch_disk_is_refused() -> None:
    assert refused((INITDATA, ROOT, DATA, VOLUME)) == "disk.missing"


@pytest.mark.parametrize("size_bytes", [256 * MIB - 512, 256 * MIB + 512])
def test_r36_scratch_disk_of_almost_the_size_is_refused(size_bytes: int) -> None:
    assert refused((INITDATA, ROOT, disk("vdc", size_bytes), CACHE, VOLUME)) == "disk.missing"


def test_r36_read_only_scratch_disk_is_refused() -> None:
    broken = disk("vdc", 256 * MIB, read_only=True)
    assert refused((INITDATA, ROOT, broken, CACHE, VOLUME), ConfigError) == "disk.read_only"


def test_r36_serial_number_given_twice_is_refused() -> None:
    twins = (disk("vdc", 256 * MIB, serial="x"), disk("vdd", 512 * MIB, serial="x"))
    assert refused((INITDATA, ROOT, *twins, VOLUME)) == "disk.serial"


def test_disk_with_two_roles_is_refused() -> None:
    assert refused(ALL, volumes={"keep": ROOT}) == "disk.ambiguous"


def test_held_disk_is_the_roots() -> None:
    assert select_held(ALL) == ROOT
    assert select_held([DATA]) is None


def test_two_held_disks_are_refused() -> None:
    with pytest.raises(VerificationError) as error:
        select_held([ROOT, disk("vdx", holders=("dm-1",))])
    assert error.value.reason == "disk.ambiguous"


def test_candidates_have_the_size_and_no_role() -> None:
    twin = disk("vdf", 128 * MIB)
    assert select_candidates((*ALL, twin), [INITDATA, None], "keep", 128 * MIB) == (VOLUME, twin)
    assert select_candidates((*ALL, twin), [VOLUME], "keep", 128 * MIB) == (twin,)


@pytest.mark.parametrize(
    ("taken", "size_bytes"), [([VOLUME], 128 * MIB), ([], 128 * MIB - 512), ([], 128 * MIB + 512)]
)
def test_volume_without_a_disk_of_its_size_is_refused_by_name(
    taken: list[BlockDevice | None], size_bytes: int
) -> None:
    with pytest.raises(VerificationError) as error:
        select_candidates(ALL, taken, "keep", size_bytes)
    assert error.value.reason == "volume.missing"
    assert error.value.detail == f"no disk of {size_bytes} bytes for keep"
