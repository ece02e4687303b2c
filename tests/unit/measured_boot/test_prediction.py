import pytest

from ccinit.errors import ConfigError, FormatError
from measured_boot.direct_boot import predict_direct_boot
from measured_boot.pcr import replay_events
from measured_boot.pe import parse_pe
from measured_boot.platforms import Boot
from measured_boot.prediction import DirectKernelBoot, UkiBoot, predict
from measured_boot.stub import predict_uki
from tests.fakes.pe_images import STUB_MARK, kernel_image, uki_image

DIRECT = DirectKernelBoot(kernel=kernel_image(), initrd=b"initrd", command_line="quiet")


def test_predict_uki_replays_the_stubs_events() -> None:
    prediction = predict(UkiBoot(uki=uki_image()))
    assert prediction.events == predict_uki(parse_pe(uki_image()))
    assert prediction.registers == replay_events(prediction.events)
    assert prediction.platform.boot is Boot.UKI
    assert prediction.command_line == "quiet oops=panic"


def test_predict_direct_replays_the_direct_boots_events() -> None:
    prediction = predict(DIRECT)
    assert prediction.events == predict_direct_boot(parse_pe(kernel_image()), b"initrd", "quiet")
    assert prediction.platform.boot is Boot.DIRECT
    assert prediction.command_line == "quiet"


def test_predict_unknown_stub_is_refused() -> None:
    unknown = uki_image({".sdmagic": STUB_MARK.replace(b"257.13", b"258.1")})
    with pytest.raises(ConfigError) as error:
        predict(UkiBoot(uki=unknown))
    assert error.value.reason == "platform.unknown"


def test_predict_platform_of_the_other_path_is_refused() -> None:
    name = predict(UkiBoot(uki=uki_image())).platform.name
    with pytest.raises(ConfigError) as error:
        predict(DIRECT, name)
    assert error.value.reason == "platform.mismatch"


def test_predict_kernel_as_uki_is_refused() -> None:
    with pytest.raises(FormatError) as error:
        predict(UkiBoot(uki=kernel_image()))
    assert error.value.reason == "stub.version"
