import cbor2

from measured_boot.prediction import DirectKernelBoot, UkiBoot, predict, predict_launch
from measured_boot.published.corim import encode_corim
from tests.fakes.published.pe_images import kernel_image, uki_image

UKI = UkiBoot(uki=uki_image())
DIRECT = DirectKernelBoot(kernel=kernel_image(), initrd=b"i", command_line="quiet oops=panic")
PREDICTIONS = (
    predict(UKI),
    predict(DIRECT),
    predict_launch(UKI, "tdx_ovmf-2025.02_stub-257.13_qemu-10.1"),
)
# Indices of the draft's maps.
TAGS, TRIPLES, REFERENCES, CLASS, KEY, VALUE, DIGESTS = 1, 4, 0, 0, 0, 1, 2
SIZES = {1: 32, 7: 48}


def test_encode_corim_has_each_register_of_each_platform() -> None:
    corim = cbor2.loads(encode_corim("id", {"image": PREDICTIONS}))
    assert corim.tag == 501
    assert corim.value[0] == "id"
    (tag,) = corim.value[TAGS]
    assert tag.tag == 506
    comid = cbor2.loads(tag.value)
    assert comid[1] == {0: "id/image"}
    triples = comid[TRIPLES][REFERENCES]
    assert [environment[CLASS] for environment, _ in triples] == [
        {1: "ccinit", 2: f"image/{prediction.platform.name}"} for prediction in PREDICTIONS
    ]
    registers = [[row[KEY] for row in measurements] for _, measurements in triples]
    assert registers == [["pcr4", "pcr9", "pcr11"], ["pcr4", "pcr9"], ["mrtd", "rtmr1", "rtmr2"]]


def test_encode_corim_digests_name_their_algorithm() -> None:
    corim = cbor2.loads(encode_corim("id", {"image": PREDICTIONS}))
    triples = cbor2.loads(corim.value[TAGS][0].value)[TRIPLES][REFERENCES]
    for _, measurements in triples:
        for row in measurements:
            ((algorithm, digest),) = row[VALUE][DIGESTS]
            assert len(digest) == SIZES[algorithm]
    assert triples[0][1][0][VALUE][DIGESTS][0][1] == PREDICTIONS[0].registers[4]
