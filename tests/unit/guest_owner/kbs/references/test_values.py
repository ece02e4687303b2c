import json
from dataclasses import replace

import pytest

from ccinit.errors import FormatError
from guest_owner.kbs.references.measurements.image import Boot, TpmMeasurements
from guest_owner.kbs.references.values import (
    Profile,
    References,
    check_name,
    encode_reference_set,
    parse_reference_set,
)
from tests.unit.guest_owner.kbs.snp_values import snp_image
from tests.unit.guest_owner.kbs.values import initdata, reference_set, register

GOOD = json.loads(encode_reference_set(reference_set()))


def test_parse_reference_set_reads_what_encode_wrote() -> None:
    for boot in Boot:
        known = reference_set(boot=boot)
        assert parse_reference_set(encode_reference_set(known)) == known


def test_parse_reference_set_takes_another_name() -> None:
    assert parse_reference_set(json.dumps(GOOD).encode(), name="other").name == "other"


def test_parse_reference_set_direct_boot_may_leave_pcr_11_out() -> None:
    value = {**GOOD, "boot": "direct", "pcr": {"4": GOOD["pcr"]["4"], "9": GOOD["pcr"]["9"]}}
    parsed = parse_reference_set(json.dumps(value).encode())
    assert isinstance(parsed.measured, TpmMeasurements)
    assert (parsed.measured.boot, parsed.profile) == (Boot.DIRECT, Profile.PROD)
    assert parsed.measured.pcr[11] == bytes(32)


def test_measurements_of_snp_are_read_as_they_were_written() -> None:
    known = snp_image()
    assert parse_reference_set(encode_reference_set(known)) == known
    assert json.loads(encode_reference_set(known))["platform"] == "snp"


@pytest.mark.parametrize(
    "values", [[], ["00" * 48], ["ab" * 47], ["AB" * 48], ["ab" * 48] * 2, "ab" * 48]
)
def test_measurements_of_another_form_are_refused(values: object) -> None:
    value = json.loads(encode_reference_set(snp_image())) | {"measurement": values}
    with pytest.raises(FormatError) as caught:
        parse_reference_set(json.dumps(value).encode())
    assert caught.value.reason == "reference.measurement"


def test_same_measurement_under_two_profiles_cannot_be_registered() -> None:
    test = replace(snp_image(), name="test", profile=Profile.TEST)
    with pytest.raises(FormatError) as caught:
        References(sets=(snp_image(), test))
    assert caught.value.reason == "reference.profile"
    assert References(sets=(snp_image(), snp_image("image-2", Profile.TEST)))


def test_file_without_a_platform_is_one_of_a_tpm() -> None:
    older = {key: value for key, value in GOOD.items() if key != "platform"}
    assert parse_reference_set(json.dumps(older).encode()) == reference_set()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "reference.version"),
        ({"name": "../x"}, "reference.name"),
        ({"name": ""}, "reference.name"),
        ({"profile": "any"}, "reference.profile"),
        ({"platform": "cca"}, "reference.platform"),
        ({"boot": "grub"}, "reference.boot"),
        ({"boot": "direct"}, "reference.pcr.11"),
        ({"extra": 1}, "reference.unknown"),
        ({"pcr": {**GOOD["pcr"], "4": "00" * 32}}, "reference.pcr.4"),
        ({"pcr": {**GOOD["pcr"], "9": "00" * 32}}, "reference.pcr.9"),
        ({"pcr": {**GOOD["pcr"], "11": "00" * 32}}, "reference.pcr.11"),
        ({"pcr": {**GOOD["pcr"], "4": "AB" * 32}}, "reference.pcr.4"),
        ({"pcr": {**GOOD["pcr"], "4": "ab" * 20}}, "reference.pcr.4"),
        ({"pcr": {**GOOD["pcr"], "8": "ab" * 32}}, "reference.pcr.unknown"),
        ({"pcr": {"4": GOOD["pcr"]["4"]}}, "reference.pcr.9"),
    ],
)
def test_parse_reference_set_refuses(change: dict[str, object], reason: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_reference_set(json.dumps({**GOOD, **change}).encode())
    assert caught.value.reason == reason


@pytest.mark.parametrize("data", [b"", b"\xff", b"{", b"[" * 50_000])
def test_parse_reference_set_refuses_what_is_not_json(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        parse_reference_set(data)
    assert caught.value.reason == "reference.json"


def test_parse_reference_set_refuses_a_member_that_stands_there_twice() -> None:
    written = encode_reference_set(reference_set())
    with pytest.raises(FormatError) as caught:
        parse_reference_set(written.replace(b"{", b'{"profile": "test", ', 1))
    assert caught.value.reason == "reference.duplicate"


def test_key_of_requests_is_in_no_text_of_what_is_registered() -> None:
    known = References(request_key=b"secret" * 4)
    assert known.request_key is not None
    assert "secret" not in repr(known)


def test_initdata_register_is_one_extend() -> None:
    # The document and register that the CoCo reference gives for this text.
    known = initdata()
    assert known.digest.hex == "8042cc8a65ff2a61c55127924ce8bd58f7c44d6fce009fa81bf07ac067619290"
    assert known.register.hex() == (
        "37d7456df43f441ba82ad495d9ec19790eca31daea26b4fc2bc158565d9bbf99"
    )


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "A", "ä", "a b", "x" * 65])
def test_check_name_refuses_what_is_no_plain_file_name(name: str) -> None:
    with pytest.raises(FormatError) as caught:
        check_name(name, "here")
    assert caught.value.reason == "here"
    for good in ("image-1.2_x", "x" * 64):
        assert check_name(good, "here") == good
    assert register("x") != register("y")
