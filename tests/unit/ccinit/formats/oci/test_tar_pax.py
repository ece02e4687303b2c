import pytest

from ccinit.errors import FormatError
from ccinit.formats.oci.tar_pax import parse_pax
from tests.fakes.images.tars import record


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"6 a=b", "tar.pax"),
        (b"7 a=b\n", "tar.pax"),
        (b"5 a=b\n", "tar.pax"),
        (b"6 a b\n", "tar.pax"),
        (b"5 =b\n", "tar.pax"),
        (b"-6 a=b\n", "tar.pax"),
        (b" 6 a=b\n", "tar.pax"),
        (b"0000006 a=b\n", "tar.pax"),
        (b"x a=b\n", "tar.pax"),
        (b"3 \n", "tar.pax"),
        (b"\0", "tar.pax"),
        (b"99999999999999999999 a=b\n", "tar.pax"),
        (record(b"SCHILY.xattr.user.a\0b", b"x"), "tar.pax"),
    ],
)
def test_malformed_pax_record_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_pax(data)
    assert refused.value.reason == reason
    assert parse_pax(b"8 path=\n"[:0]) == {}
    assert parse_pax(record(b"path", b"x")) == {b"path": b"x"}
