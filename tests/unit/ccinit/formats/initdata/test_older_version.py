"""Documents of an older version: taken as before, but for what CHANGELOG says is refused by now."""

from pathlib import Path

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.initdata.document import parse_initdata
from ccinit.formats.initdata.guest_files import parse_guest_files
from ccinit.formats.pod.secret import FileSecret

DOCUMENT = Path("tests/vectors/older_version/state/initdata/shop.toml")
SMALL_VOLUME = b"size_bytes = 16777216\n"


def test_document_of_an_older_version_is_taken_once_its_volume_has_room_for_a_journal() -> None:
    written = DOCUMENT.read_bytes()
    assert written.count(SMALL_VOLUME) == 1
    with pytest.raises(CcinitError) as refused:
        parse_guest_files(parse_initdata(written))
    assert refused.value.reason == "pod.volume.size_bytes"
    larger = written.replace(SMALL_VOLUME, b"size_bytes = 67108864\n")
    config, manifest = parse_guest_files(parse_initdata(larger))
    assert config.kbs.url == "https://kbs.example:8443"
    assert [volume.name for volume in manifest.volumes] == ["scratch", "data"]
    (secret,) = manifest.secrets
    assert isinstance(secret, FileSecret)
    assert secret.path == "/run/password"
