"""`ccinit.toml`: the whole schema, and every way out of it."""

import base64

import pytest

from ccinit.errors import FormatError
from ccinit.formats.guest_config import (
    LOG_PUBLIC_KEY_BYTES,
    EnvelopePolicy,
    KbsTransport,
    Limits,
    StartBy,
    parse_guest_config,
)
from ccinit.formats.jwk import TeeKeyAlgorithm

KEY = bytes(range(256)) * 4 + bytes(LOG_PUBLIC_KEY_BYTES - 1024)
CONFIG = f"""version = 1
[kbs]
url = "https://kbs.example:8443"
ca = '''-----BEGIN CERTIFICATE-----
x
-----END CERTIFICATE-----'''
envelope = "required"
[log]
public_key = "{base64.b64encode(KEY).decode()}"
"""


def test_guest_config_smallest_form_takes_the_defaults() -> None:
    config = parse_guest_config(CONFIG)
    assert config.kbs.url == "https://kbs.example:8443"
    assert config.kbs.envelope is EnvelopePolicy.REQUIRED
    assert config.log_public_key == KEY
    assert config.start_by is StartBy.GUEST
    assert config.debug_allowed is False
    assert config.limits == Limits()


def test_guest_config_names_the_kind_of_the_tee_key() -> None:
    assert parse_guest_config(CONFIG).kbs.tee_key_algorithm is TeeKeyAlgorithm.P256
    for algorithm in TeeKeyAlgorithm:
        text = CONFIG.replace("[log]", f'tee_key_algorithm = "{algorithm.value}"\n[log]')
        assert parse_guest_config(text).kbs.tee_key_algorithm is algorithm


def test_guest_config_names_the_way_to_the_kbs() -> None:
    assert parse_guest_config(CONFIG).kbs.transport is KbsTransport.TCP
    text = CONFIG.replace("[log]", 'transport = "vsock"\n[log]')
    assert parse_guest_config(text).kbs.transport is KbsTransport.VSOCK


def test_guest_config_limits_are_taken() -> None:
    config = parse_guest_config(CONFIG + "[limits]\nattest_seconds = 9\n")
    assert config.limits == Limits(attest_seconds=9)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        pytest.param("version = 1", "version = 2", "ccinit.version", id="version"),
        pytest.param("version = 1", "", "ccinit.version", id="no-version"),
        pytest.param(
            "[log]",
            'tee_key_algorithm = "RSA1_5"\n[log]',
            "ccinit.kbs.tee_key_algorithm",
            id="tee-key",
        ),
        pytest.param("https://", "http://", "ccinit.kbs.url", id="plain-http"),
        pytest.param(":8443", ":8443/path", "ccinit.kbs.url", id="path"),
        pytest.param("BEGIN", "BEGINN", "ccinit.kbs.ca", id="no-certificate"),
        pytest.param('"required"', '"optional"', "ccinit.kbs.envelope", id="envelope"),
        pytest.param('envelope = "required"', "", "ccinit.kbs.envelope", id="no-envelope"),
        pytest.param("[kbs]", '[kbs]\ntransport = "udp"', "ccinit.kbs.transport", id="transport"),
        pytest.param("[kbs]", "[kbs]\nx = 1", "ccinit.kbs.unknown", id="unknown"),
        pytest.param('public_key = "', 'public_key = "!', "ccinit.log.public_key", id="base64"),
        pytest.param('public_key = "AAEC', 'public_key = "', "ccinit.log.public_key", id="short"),
        pytest.param("[log]", "[owner]\nport = 1\n[log]", "ccinit.unknown", id="no-owner-plane"),
        pytest.param("[log]", "[limits]\nimage_bytes = 0\n[log]", "ccinit.limits.image_bytes",
                     id="zero-limit"),
        pytest.param("[log]", "[debug]\nallowed = 1\n[log]", "ccinit.debug.allowed", id="debug"),
        pytest.param("[log]", '[start]\nby = "owner"\n[log]', "ccinit.start.by", id="start"),
    ],
)  # fmt: skip
def test_guest_config_outside_its_schema_is_refused(old: str, new: str, reason: str) -> None:
    assert old in CONFIG
    with pytest.raises(FormatError) as caught:
        parse_guest_config(CONFIG.replace(old, new, 1))
    assert caught.value.reason == reason
