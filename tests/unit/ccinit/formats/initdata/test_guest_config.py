"""`ccinit.toml`: the whole schema, and every way out of it."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.initdata.guest_config import (
    AttestationService,
    DebugConfig,
    EnvelopePolicy,
    KbsTransport,
    Limits,
    LogConfig,
    OwnerConfig,
    PassportConfig,
    StartBy,
    parse_guest_config,
)
from ccinit.formats.kbs.jwk import TeeKeyAlgorithm
from ccinit.formats.planes.ports import WORKLOAD_PORT
from ccinit.values import replace
from tests.fakes.documents.guest import CONFIG, LOG_KEY


def test_guest_config_smallest_form_takes_the_defaults() -> None:
    config = parse_guest_config(CONFIG)
    assert config.kbs.url == "https://kbs.example:8443"
    assert config.kbs.envelope is EnvelopePolicy.REQUIRED
    assert config.log == LogConfig(public_key=LOG_KEY)
    assert config.start_by is StartBy.GUEST
    assert config.debug == DebugConfig(allowed=False, tools=None)
    assert config.limits == Limits()


def test_guest_config_names_the_kind_of_the_tee_key() -> None:
    assert parse_guest_config(CONFIG).kbs.tee_key_algorithm is TeeKeyAlgorithm.P256
    for algorithm in TeeKeyAlgorithm:
        text = CONFIG.replace("[log]", f'tee_key_algorithm = "{algorithm.value}"\n[log]')
        assert parse_guest_config(text).kbs.tee_key_algorithm is algorithm


def test_guest_config_may_have_many_roots() -> None:
    roots = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n" * 1000
    text = CONFIG.replace("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", roots)
    assert parse_guest_config(text).kbs.ca_pem == roots


def test_guest_config_names_the_way_to_the_kbs() -> None:
    assert parse_guest_config(CONFIG).kbs.transport is KbsTransport.TCP
    text = CONFIG.replace("[log]", 'transport = "vsock"\n[log]')
    assert parse_guest_config(text).kbs.transport is KbsTransport.VSOCK


def test_guest_config_owner_plane_may_have_a_port_or_only_the_relay() -> None:
    roots = "-----BEGIN CERTIFICATE-----"
    assert parse_guest_config(CONFIG).owner is None
    config = parse_guest_config(CONFIG + f"[owner]\nclient_ca = '{roots}'\n")
    assert config.owner == OwnerConfig(port=0, client_ca_pem=roots)
    config = parse_guest_config(CONFIG + f"[owner]\nport = 8443\nclient_ca = '{roots}'\n")
    assert config.owner == OwnerConfig(port=8443, client_ca_pem=roots)


def test_guest_config_may_declare_the_one_disk_that_debug_mounts() -> None:
    tools = f"[debug.tools]\nroot_hash = '{'ab' * 32}'\nsalt = '{'cd' * 32}'\ndata_blocks = 300\n"
    config = parse_guest_config(CONFIG + tools)
    assert config.debug.allowed is False
    assert config.debug.tools is not None
    assert config.debug.tools.root_hash == b"\xab" * 32
    assert config.debug.tools.device_bytes == (300 + 4) * 4096
    for old, new, reason in (
        ("data_blocks = 300", "data_blocks = 1", "ccinit.debug.tools.data_blocks"),
        ("ab", "AB", "ccinit.debug.tools.root_hash"),
        ("salt = ", "seed = ", "ccinit.debug.tools.salt"),
        ("data_blocks", "x = 1\ndata_blocks", "ccinit.debug.tools.unknown"),
    ):
        with pytest.raises(FormatError) as caught:
            parse_guest_config(CONFIG + tools.replace(old, new))
        assert caught.value.reason == reason


def test_guest_config_log_may_have_a_pace() -> None:
    text = CONFIG + "heartbeat_seconds = 0\nbatch_ms = 250\nbatch_bytes = 8192\n"
    assert parse_guest_config(text).log == LogConfig(
        public_key=LOG_KEY, heartbeat_seconds=0, batch_ms=250, batch_bytes=8192
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("heartbeat_seconds", 3600),
        ("batch_ms", 0),
        ("batch_ms", 50),
        ("batch_ms", 60_000),
        ("batch_bytes", 4096),
        ("batch_bytes", 65_536),
    ],
)
def test_guest_config_pace_is_taken_up_to_its_limits(key: str, value: int) -> None:
    log = parse_guest_config(CONFIG + f"{key} = {value}\n").log
    assert getattr(log, key) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("heartbeat_seconds", "-1"),
        ("heartbeat_seconds", "3601"),
        ("batch_ms", "-1"),
        ("batch_ms", "1"),
        ("batch_ms", "49"),
        ("batch_ms", "60001"),
        ("batch_bytes", "4095"),
        ("batch_bytes", "4097"),
        ("batch_bytes", "66048"),
    ],
)
def test_guest_config_pace_outside_its_limits_is_refused(key: str, value: str) -> None:
    with pytest.raises(FormatError) as error:
        parse_guest_config(CONFIG + f"{key} = {value}\n")
    assert error.value.reason == f"ccinit.log.{key}"


GIB = 1 << 30


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("scratch_tags_bytes", 1, 64 * GIB),
        ("memory_store_bytes", 1 << 20, 1024 * GIB),
        ("image_bytes", 1, 1024 * GIB),
        ("log_ring_bytes", 1 << 20, 256 << 20),
        ("attest_seconds", 1, 86_400),
        ("pull_seconds", 1, 86_400),
        ("network_seconds", 1, 86_400),
        ("stop_grace_seconds", 1, 3_600),
    ],
)
def test_guest_config_limit_is_taken_within_its_bounds(key: str, low: int, high: int) -> None:
    for value in (low, high):
        config = parse_guest_config(CONFIG + f"[limits]\n{key} = {value}\n")
        assert config.limits == replace(Limits(), **{key: value})
    for value in (low - 1, high + 1):
        with pytest.raises(FormatError) as refused:
            parse_guest_config(CONFIG + f"[limits]\n{key} = {value}\n")
        assert refused.value.reason == f"ccinit.limits.{key}"


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
        pytest.param("https://", "", "ccinit.kbs.url", id="no-scheme"),
        pytest.param("kbs.", "kbs\u00e4.", "ccinit.kbs.url", id="not-ascii"),
        pytest.param(":8443", ":8443/path", "ccinit.kbs.url", id="path"),
        pytest.param(":8443", ":8443?x", "ccinit.kbs.url", id="query"),
        pytest.param(":8443", ":8443#x", "ccinit.kbs.url", id="fragment"),
        pytest.param("https://", "https://user@", "ccinit.kbs.url", id="user"),
        pytest.param(":8443", ":8443\\n", "ccinit.kbs.url", id="line-break"),
        pytest.param("kbs.example:8443", "", "ccinit.kbs.url", id="no-host"),
        pytest.param(":8443", ":notaport", "ccinit.kbs.url", id="port"),
        pytest.param("BEGIN", "BEGINN", "ccinit.kbs.ca", id="no-certificate"),
        pytest.param('"required"', '"optional"', "ccinit.kbs.envelope", id="envelope"),
        pytest.param('envelope = "required"', "", "ccinit.kbs.envelope", id="no-envelope"),
        pytest.param("[kbs]", '[kbs]\ntransport = "udp"', "ccinit.kbs.transport", id="transport"),
        pytest.param("[kbs]", "[kbs]\nx = 1", "ccinit.kbs.unknown", id="unknown"),
        pytest.param('public_key = "', 'public_key = "!', "ccinit.log.public_key", id="base64"),
        pytest.param('public_key = "AAAA', 'public_key = "', "ccinit.log.public_key", id="short"),
        pytest.param("[log]", "[owner]\nport = 1\n[log]", "ccinit.owner.client_ca", id="no-roots"),
        pytest.param("[log]", "[owner]\nport = 65536\n[log]", "ccinit.owner.port", id="port"),
        pytest.param("[log]", f"[owner]\nport = {WORKLOAD_PORT}\n[log]", "ccinit.owner.port",
                     id="taken"),
        pytest.param("[log]", "[owner]\nclient_ca = 'x'\n[log]", "ccinit.owner.client_ca",
                     id="roots"),
        pytest.param("[log]", "[limits]\nimage_bytes = nan\n[log]", "ccinit.limits.image_bytes",
                     id="not-a-number"),
        pytest.param("[log]", "[debug]\nallowed = 1\n[log]", "ccinit.debug.allowed", id="debug"),
        pytest.param("[log]", '[start]\nby = "owner"\n[log]', "ccinit.start.by", id="start"),
    ],
)  # fmt: skip
def test_r09_guest_config_outside_its_schema_is_refused(old: str, new: str, reason: str) -> None:
    assert old in CONFIG
    with pytest.raises(FormatError) as caught:
        parse_guest_config(CONFIG.replace(old, new, 1))
    assert caught.value.reason == reason


PASSPORT = """[kbs.passport]
service = "intel-trust-authority-v2"
url = "https://api.example"
ca = "-----BEGIN CERTIFICATE-----"
api_key = "djE6YWJj=="
policy_ids = ["2b5e0a2c-1111-4222-8333-444455556666"]
"""


def test_guest_config_names_who_appraises_the_guest() -> None:
    assert parse_guest_config(CONFIG).kbs.passport is None
    assert parse_guest_config(CONFIG + PASSPORT).kbs.passport == PassportConfig(
        service=AttestationService.INTEL_TRUST_AUTHORITY_V2,
        url="https://api.example",
        ca_pem="-----BEGIN CERTIFICATE-----",
        api_key="djE6YWJj==",
        policy_ids=("2b5e0a2c-1111-4222-8333-444455556666",),
    )


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        pytest.param("intel-trust-authority-v2", "another", "service", id="service"),
        pytest.param("intel-trust-authority-v2", "azure-attestation", "service", id="azure-key"),
        pytest.param("https://", "http://", "url", id="plain-http"),
        pytest.param("BEGIN", "END", "ca", id="no-certificate"),
        pytest.param("djE6YWJj==", "a\\r\\nx: y", "api_key", id="header-injection"),
        pytest.param("djE6YWJj==", "", "api_key", id="empty-key"),
        pytest.param("djE6YWJj==", 257 * "a", "api_key", id="long-key"),
        pytest.param("2b5e0a2c-", "ä", "policy_ids", id="policy"),
        pytest.param("2b5e0a2c-", 40 * "a", "policy_ids", id="long-policy"),
        pytest.param("policy_ids = [", "policy_ids = [" + 16 * '"a", ', "policy_ids", id="many"),
        pytest.param("api_key", "api_kay", "unknown", id="unknown"),
    ],
)
def test_guest_config_with_a_wrong_passport_is_refused(old: str, new: str, key: str) -> None:
    parse_guest_config(CONFIG + PASSPORT)
    with pytest.raises(FormatError) as refused:
        parse_guest_config(CONFIG + PASSPORT.replace(old, new, 1))
    assert refused.value.reason == f"ccinit.kbs.passport.{key}"


def test_guest_config_asks_azure_with_neither_key_nor_policies() -> None:
    key, policies = PASSPORT.splitlines(keepends=True)[-2:]
    azure = CONFIG + PASSPORT.replace("intel-trust-authority-v2", "azure-attestation")
    assert parse_guest_config(azure.replace(key, "").replace(policies, "")).kbs.passport
    for one in (key, policies):
        with pytest.raises(FormatError) as refused:
            parse_guest_config(azure.replace(one, ""))
        assert refused.value.reason == "ccinit.kbs.passport.service"
