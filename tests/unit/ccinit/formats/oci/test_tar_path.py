import pytest

from ccinit.formats.oci.tar_path import normal_path


@pytest.mark.parametrize(
    ("name", "path"), [(b".", b""), (b"./a", b"a"), (b"a/.b/..c", b"a/.b/..c")]
)
def test_path_in_normal_form_has_no_leading_dot(name: bytes, path: bytes) -> None:
    assert normal_path(name) == path
