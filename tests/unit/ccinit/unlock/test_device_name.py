import pytest

from ccinit.agent.phases.debug_tools import TOOLS_DISK
from ccinit.errors import FormatError
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.pod.name import read_name
from ccinit.init.stage0 import ROOT_DEVICE_NAME
from ccinit.unlock.device_name import name_device, name_former, name_integrity, volume_of


def test_device_is_reported_by_its_volume() -> None:
    assert volume_of(name_device("data")) == volume_of(name_integrity("data")) == "data"


@pytest.mark.parametrize("device", ["vda", "data.integrity", ROOT_DEVICE_NAME])
def test_device_by_no_rule_of_ours_has_no_volume(device: str) -> None:
    assert volume_of(device) is None


@pytest.mark.parametrize(
    "other",
    [name_integrity("data"), name_former("data"), name_device(TOOLS_DISK), ROOT_DEVICE_NAME],
)
def test_no_volume_has_the_name_of_another_device(other: str) -> None:
    fields = Fields({"name": other.removeprefix("ccinit-"), "data": "data"}, "pod.volume")
    assert read_name(fields, "data", "pod.volume") == "data"
    with pytest.raises(FormatError):
        read_name(fields, "name", "pod.volume")
