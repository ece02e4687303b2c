"""`[[volume]]` of `pod.toml`."""

import pytest

from ccinit.errors import ConfigError, FormatError
from ccinit.formats.disk.luks2 import PAYLOAD_OFFSET
from ccinit.formats.disk.verity import BLOCK_BYTES
from ccinit.formats.encoding import wire
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.pod.manifest import OnStorageError, PodManifest, parse_pod_manifest
from ccinit.formats.pod.volume import (
    MIN_FORMER_BYTES,
    MIN_JOURNALED_BYTES,
    Luks2Volume,
    MadeElsewhere,
    PersistentVolume,
    RollbackAnchor,
    ScratchProfile,
    ScratchVolume,
    TmpfsVolume,
    VerityVolume,
    VolumeFormat,
    select_kind,
)
from ccinit.unlock.integrity import plan_disk_layout
from ccinit.unlock.volume import JOURNAL_BYTES
from tests.fakes.documents.guest import FULL_POD, VERITY

DATA_KEY = ResourceUri("ccinit", "demo", "volume-key-data")
OTHERS = """
[[volume]]
name = "cache"
kind = "tmpfs"
size_bytes = 1048576
[[volume]]
name = "old"
kind = "persistent"
format = "luks2"
size_bytes = 67108864
key = "kbs:///ccinit/demo/volume-key-old"
"""


def persistent(text: str) -> PersistentVolume:
    """Return the one volume in the guest's own format."""
    (volume,) = select_kind(parse_pod_manifest(text).volumes, PersistentVolume)
    return volume


@pytest.mark.parametrize("profile", ScratchProfile)
def test_scratch_volume_has_the_profile_that_it_names(profile: ScratchProfile) -> None:
    text = FULL_POD.replace('kind = "scratch"', f'kind = "scratch"\nprofile = "{profile}"')
    (scratch,) = select_kind(parse_pod_manifest(text).volumes, ScratchVolume)
    assert scratch.profile is profile


@pytest.mark.parametrize("key", ["root_hash", "salt", "data_blocks"])
def test_what_pins_a_verity_volume_pins_no_other(key: str) -> None:
    value = "2032" if key == "data_blocks" else f'"{"ab" * 32}"'
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(FULL_POD.replace('"persistent"', f'"persistent"\n{key} = {value}'))
    assert caught.value.reason == f"pod.volume.{key}"


def test_smallest_volume_of_the_guests_own_format_is_taken() -> None:
    text = FULL_POD.replace("67108864", str(MIN_JOURNALED_BYTES))
    assert persistent(text).size_bytes == MIN_JOURNALED_BYTES


def test_persistent_volume_has_the_guests_own_format_unless_it_says_another() -> None:
    plain = persistent(FULL_POD)
    assert (plain.name, plain.key) == ("data", DATA_KEY)
    assert not isinstance(plain, MadeElsewhere)
    assert persistent(FULL_POD.replace('"persistent"', '"persistent"\nformat = "ccinit"')) == plain


@pytest.mark.parametrize(
    ("word", "is_sealed"), [(VolumeFormat.LUKS2, False), (VolumeFormat.LUKS2_SEALED, True)]
)
def test_pod_manifest_names_the_format_of_a_volume(
    word: VolumeFormat,
    is_sealed: bool,  # noqa: FBT001
) -> None:
    text = FULL_POD.replace('"persistent"', f'"persistent"\nformat = "{word}"')
    volume = parse_pod_manifest(text).volume("data")
    assert volume == Luks2Volume(
        name="data", size_bytes=64 << 20, key=DATA_KEY, is_sealed=is_sealed
    )
    assert isinstance(volume, MadeElsewhere)
    beyond = text.replace("67108864", str(PAYLOAD_OFFSET + BLOCK_BYTES), 1)
    assert parse_pod_manifest(beyond).volume("data").size_bytes == PAYLOAD_OFFSET + BLOCK_BYTES
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(text.replace("67108864", str(PAYLOAD_OFFSET), 1))
    assert caught.value.reason == "pod.volume.size_bytes"


def test_pod_manifest_asks_for_a_rollback_counter() -> None:
    assert persistent(FULL_POD).rollback is RollbackAnchor.NONE
    text = FULL_POD.replace('"persistent"', '"persistent"\nrollback = "kbs-counter"')
    assert persistent(text).rollback is RollbackAnchor.KBS_COUNTER


def test_pod_manifest_names_the_sizes_that_a_volume_had() -> None:
    assert persistent(FULL_POD).grown_from_bytes == ()
    text = FULL_POD.replace('"persistent"', '"persistent"\ngrown_from_bytes = [16777216, 33554432]')
    assert persistent(text).grown_from_bytes == (16 << 20, 32 << 20)


def test_volume_never_was_on_a_disk_without_room_for_its_tags() -> None:
    """Else a guest would find out in UNLOCK, whatever the disk is."""
    grown = FULL_POD.replace('"persistent"', '"persistent"\ngrown_from_bytes = [{}]')
    assert persistent(grown.replace("{}", str(MIN_FORMER_BYTES))).grown_from_bytes
    assert plan_disk_layout(MIN_FORMER_BYTES, JOURNAL_BYTES).provided_bytes > 0
    smaller = MIN_FORMER_BYTES - (1 << 20)
    with pytest.raises(ConfigError) as unlocking:
        plan_disk_layout(smaller, JOURNAL_BYTES)
    assert unlocking.value.reason == "disk.size"
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(grown.replace("{}", str(smaller)))
    assert caught.value.reason == "pod.volume.grown_from_bytes"


def test_verity_volume_that_shall_grow_is_refused() -> None:
    text = FULL_POD + VERITY.replace('"verity"', '"verity"\ngrown_from_bytes = [4194304]')
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(text)
    assert caught.value.reason == "pod.volume.grown_from_bytes"


def test_pod_manifest_says_what_a_disk_fault_does() -> None:
    assert parse_pod_manifest(FULL_POD).on_storage_error is OnStorageError.REPORT
    text = FULL_POD.replace("version = 1\n", 'version = 1\non_storage_error = "stop"\n')
    assert parse_pod_manifest(text).on_storage_error is OnStorageError.STOP
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(text.replace('"stop"', '"ignore"'))
    assert caught.value.reason == "pod.on_storage_error"


def test_pod_manifest_pins_a_verity_volume() -> None:
    manifest = parse_pod_manifest(FULL_POD + VERITY)
    (volume,) = select_kind(manifest.volumes, VerityVolume)
    assert isinstance(volume, MadeElsewhere)
    assert volume.name == "model"
    assert (volume.verity.root_hash.hex(), volume.verity.salt.hex()) == ("ab" * 32, "cd" * 32)
    assert volume.verity.data_bytes == 2032 * 4096
    assert wire.decode(PodManifest, wire.encode(manifest)) == manifest


def test_volume_of_each_kind_crosses_a_process_boundary_as_what_it_is() -> None:
    manifest = parse_pod_manifest(FULL_POD + VERITY + OTHERS)
    assert [type(volume) for volume in manifest.volumes] == [
        ScratchVolume,
        PersistentVolume,
        VerityVolume,
        TmpfsVolume,
        Luks2Volume,
    ]
    assert wire.decode(PodManifest, wire.encode(manifest)) == manifest


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("2032", "2033", "pod.volume.data_blocks"),
        ("2032", "1", "pod.volume.data_blocks"),
        ("ab" * 32, "ab" * 31, "pod.volume.root_hash"),
        ('salt = "' + "cd" * 32 + '"\n', "", "pod.volume.salt"),
    ],
)
def test_verity_volume_outside_its_schema_is_refused(old: str, new: str, reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_pod_manifest(FULL_POD + VERITY.replace(old, new, 1))
    assert caught.value.reason == reason


def luks2(name: str, *, form: str = "luks2", size_bytes: int = 1 << 26, key: str = "old") -> str:
    return f"""
[[volume]]
name = "{name}"
kind = "persistent"
format = "{form}"
size_bytes = {size_bytes}
key = "kbs:///ccinit/demo/volume-key-{key}"
"""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(luks2("a"), luks2("b", key="new"), id="another-key"),
        pytest.param(luks2("a"), luks2("b", size_bytes=1 << 27), id="another-size"),
        pytest.param(luks2("a", form="luks2-sealed"), luks2("b"), id="sealed-first"),
        pytest.param(
            luks2("a", form="luks2-sealed"), luks2("b", form="luks2-sealed"), id="both-sealed"
        ),
        pytest.param(luks2("a"), luks2("b").replace('format = "luks2"\n', ""), id="ccinit"),
    ],
)
def test_luks2_volumes_that_are_told_apart_are_taken(first: str, second: str) -> None:
    names = [one.name for one in parse_pod_manifest(f"{FULL_POD}{first}{second}").volumes]
    assert names[-2:] == ["a", "b"]


@pytest.mark.parametrize("form", ["luks2", "luks2-sealed"])
def test_luks2_volumes_that_are_not_told_apart_are_refused(form: str) -> None:
    """The disk of the second opens as the first, too."""
    with pytest.raises(FormatError) as refused:
        parse_pod_manifest(f"{FULL_POD}{luks2('a')}{luks2('b', form=form)}")
    assert refused.value.reason == "pod.volume.key"
    assert refused.value.detail.startswith("b opens with the key of a")
