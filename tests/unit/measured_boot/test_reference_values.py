import json

import pytest

from ccinit.errors import ConfigError
from guest_owner.kbs.measurements import TpmMeasurements
from guest_owner.kbs.references import parse_reference_set
from measured_boot.prediction import DirectKernelBoot, Prediction, UkiBoot, predict
from measured_boot.reference_values import Profile, profile_of, reference_values
from tests.fakes.pe_images import kernel_image, uki_image


def uki(line: str = "quiet oops=panic") -> Prediction:
    return predict(UkiBoot(uki=uki_image({".cmdline": line.encode()})))


def direct() -> Prediction:
    return predict(
        DirectKernelBoot(kernel=kernel_image(), initrd=b"initrd", command_line="quiet oops=panic")
    )


@pytest.mark.parametrize("prediction", [uki(), direct(), uki("quiet")])
def test_to_bytes_is_what_the_owner_reads(prediction: Prediction) -> None:
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
