import hashlib
import json
from dataclasses import replace

import pytest

from ccinit.errors import ConfigError, FormatError, LimitExceededError
from guest_owner.kbs.references.measurements.image import SnpMeasurements, TpmMeasurements
from guest_owner.kbs.references.measurements.tdx import TdxMeasurements
from guest_owner.kbs.references.values import (
    MAX_REFERENCE_BYTES,
    encode_reference_set,
    parse_reference_set,
)
from measured_boot.prediction import (
    DirectKernelBoot,
    LaunchPrediction,
    Machine,
    TpmPrediction,
    UkiBoot,
    predict,
    predict_launch,
)
from measured_boot.published.reference_values import (
    MAX_MEASUREMENTS,
    Profile,
    encode_launches,
    profile_of,
    reference_values,
)
from tests.fakes.platforms.firmware import FakeFirmware, fake_svsm
from tests.fakes.published.pe_images import kernel_image, uki_image

DIRECT = DirectKernelBoot(kernel=kernel_image(), initrd=b"initrd", command_line="quiet oops=panic")


def uki(line: str = "quiet oops=panic") -> TpmPrediction:
    return predict(UkiBoot(uki=uki_image({".cmdline": line.encode()})))


def direct() -> TpmPrediction:
    return predict(DIRECT)


def launches(*counts: int, model: str = "EPYC-Milan") -> list[LaunchPrediction]:
    firmware = FakeFirmware().to_bytes()
    return [
        predict_launch(
            DIRECT,
            "snp_direct_qemu-10",
            Machine(firmware=firmware, vcpus=count, cpu_model=model),
        )
        for count in counts
    ]


def test_encode_launches_of_snp_is_what_the_owner_reads() -> None:
    predictions = [*launches(1, 2), *launches(1, 2, model="EPYC-Milan-v2")]  # the same signature
    read = parse_reference_set(encode_launches(predictions, "trixie-snp"))
    assert (read.name, read.profile.value) == ("trixie-snp", "prod")
    assert isinstance(read.measured, SnpMeasurements)
    assert read.measured.values == tuple(row.registers["launch_digest"] for row in launches(1, 2))


def test_as_many_launches_as_a_file_may_have_are_what_the_owner_reads() -> None:
    (prediction,) = launches(1)
    predictions = [
        replace(prediction, registers={"launch_digest": number.to_bytes(48, "little")})
        for number in range(1, MAX_MEASUREMENTS + 2)
    ]
    document = encode_launches(predictions[1:], "n" * 64)
    read = parse_reference_set(document)
    assert isinstance(read.measured, SnpMeasurements)
    assert len(read.measured.values) == MAX_MEASUREMENTS
    assert len(encode_reference_set(read)) <= MAX_REFERENCE_BYTES  # as the owner keeps it
    with pytest.raises(ConfigError) as refused:
        encode_launches(predictions, "n")
    assert refused.value.reason == "reference.measurement"
    more = json.loads(document)
    more["measurement"].append(predictions[0].registers["launch_digest"].hex())
    with pytest.raises(LimitExceededError) as told:
        parse_reference_set(json.dumps(more).encode())
    assert told.value.reason == "reference.measurement"


@pytest.mark.parametrize("what", [DIRECT, UkiBoot(uki=uki_image())])
def test_encode_launches_of_tdx_is_what_the_owner_reads(what: DirectKernelBoot | UkiBoot) -> None:
    path = "direct" if what is DIRECT else "stub-257.13"
    prediction = predict_launch(what, f"tdx_ovmf-2025.02_{path}_qemu-10.1")
    read = parse_reference_set(encode_launches([prediction], "trixie-tdx"))
    assert isinstance(read.measured, TdxMeasurements)
    for name in ("mrtd", "rtmr1", "rtmr2"):
        assert getattr(read.measured, name) == prediction.registers[name]
    assert list(read.measured.events) == [1, 2]
    for index, events in read.measured.events.items():
        register = bytes(48)
        for event in events:
            register = hashlib.sha384(register + event.digest).digest()
        assert register == read.measured.rtmr(index)


def test_encode_launches_with_an_svsm_is_what_no_owner_takes_for_snp() -> None:
    """Its digest is the same for every image: it must not be read without the registers."""
    machine = Machine(firmware=FakeFirmware().to_bytes(), cpu_model="EPYC-Milan", svsm=fake_svsm())
    platform = "snp-svsm_stub-257.13_qemu-8.0-svsm"
    prediction = predict_launch(UkiBoot(uki=uki_image()), platform, machine)
    data = encode_launches([prediction], "trixie-svsm")
    value = json.loads(data)
    assert (value["platform"], value["pcr"]["4"]) == (
        "snp-svsm",
        predict(UkiBoot(uki=uki_image())).registers[4].hex(),
    )
    assert value["measurement"] == [prediction.registers["svsm_launch_digest"].hex()]
    with pytest.raises(FormatError) as error:
        parse_reference_set(data)
    assert error.value.reason == "reference.platform"


@pytest.mark.parametrize(
    ("name", "profile", "reason"),
    [("X", None, "reference.name"), ("x", Profile.TEST, "reference.profile")],
)
def test_encode_launches_refuses(name: str, profile: Profile | None, reason: str) -> None:
    assert encode_launches(launches(1), "x", Profile.PROD)
    with pytest.raises(ConfigError) as error:
        encode_launches(launches(1), name, profile)
    assert error.value.reason == reason


@pytest.mark.parametrize("prediction", [uki(), direct(), uki("quiet")])
def test_to_bytes_is_what_the_owner_reads(prediction: TpmPrediction) -> None:
    values = reference_values(prediction, "trixie-1")
    read = parse_reference_set(values.to_bytes())
    assert isinstance(read.measured, TpmMeasurements)
    assert (read.name, read.profile.value, read.measured.boot.value) == (
        "trixie-1",
        values.profile.value,
        prediction.platform.boot.value,
    )
    assert dict(read.measured.pcr) == dict(prediction.registers)


def test_to_bytes_has_exactly_the_documented_keys() -> None:
    value = json.loads(reference_values(uki(), "x").to_bytes())
    assert list(value) == ["version", "name", "profile", "boot", "pcr"]
    assert list(value["pcr"]) == ["4", "9", "11"]
    assert value["version"] == 1


@pytest.mark.parametrize(
    ("line", "profile"),
    [
        ("quiet oops=panic", Profile.PROD),
        ("oops=panic quiet", Profile.PROD),
        ("quiet", Profile.TEST),
        ("quiet oops=panicked", Profile.TEST),
        ("quiet xoops=panic", Profile.TEST),
    ],
)
def test_profile_of_is_told_by_the_command_line(line: str, profile: Profile) -> None:
    assert profile_of(line) is profile


def test_reference_values_wanted_profile_that_fits_is_taken() -> None:
    assert reference_values(uki(), "x", Profile.PROD).profile is Profile.PROD
    assert reference_values(uki("quiet"), "x", Profile.TEST).profile is Profile.TEST


@pytest.mark.parametrize(
    ("line", "profile"), [("quiet", Profile.PROD), ("quiet oops=panic", Profile.TEST)]
)
def test_reference_values_wrong_profile_is_refused(line: str, profile: Profile) -> None:
    with pytest.raises(ConfigError) as error:
        reference_values(uki(line), "x", profile)
    assert error.value.reason == "reference.profile"


@pytest.mark.parametrize("name", ["", "x" * 65, ".x", "A", "a/b", "a b", "\xe9"])
def test_reference_values_name_that_is_no_file_name_is_refused(name: str) -> None:
    assert reference_values(uki(), "x" * 64).name == "x" * 64
    with pytest.raises(ConfigError) as error:
        reference_values(uki(), name)
    assert error.value.reason == "reference.name"
