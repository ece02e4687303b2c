from measured_boot.prediction import (
    DirectKernelBoot,
    Machine,
    predict,
    predict_launch,
)
from measured_boot.published.measurements import describe, describe_events
from tests.fakes.platforms.firmware import FakeFirmware
from tests.fakes.published.pe_images import kernel_image

DIRECT = DirectKernelBoot(kernel=kernel_image(), initrd=b"initrd", command_line="quiet")
SNP = predict_launch(
    DIRECT,
    "snp_direct_qemu-10",
    Machine(firmware=FakeFirmware().to_bytes(), cpu_model="EPYC-v4"),
)


def test_describe_has_exactly_the_documented_keys() -> None:
    value = describe(SNP)
    assert list(value) == [
        *("version", "platform", "technology", "boot", "profile", "compared"),
        *("inputs", "registers"),
    ]
    assert value["registers"] == {"launch_digest": SNP.registers["launch_digest"].hex()}
    assert (value["technology"], value["boot"], value["profile"]) == ("snp", "direct", "test")


def test_describe_says_whether_a_boot_was_compared() -> None:
    assert describe(SNP)["compared"] is False
    assert describe(predict(DIRECT))["compared"] is True
    assert describe(predict(DIRECT))["inputs"] == {}


def test_describe_events_has_both_digests_of_each() -> None:
    prediction = predict(DIRECT)
    assert describe_events(prediction) == [
        {
            "pcr": event.register,
            "kind": event.kind.value,
            "sha256": event.digest.hex(),
            "sha384": event.wide_digest.hex(),
            "subject": event.subject,
        }
        for event in prediction.events
    ]
    assert describe_events(SNP) == describe_events(prediction)
