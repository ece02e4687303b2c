"""Invariant: CoCo's files say where the KBS is and how images are pulled, or are refused."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.initdata.coco_config import CocoSettings, parse_coco_settings
from ccinit.formats.initdata.guest_config import KbsAddress
from ccinit.formats.kbs.resource_uri import parse_resource_uri
from ccinit.formats.pod.manifest import ImageDefaults
from tests.fakes.documents.coco import AA, CDH, CERTIFICATE, IMAGE, KBC, REGISTRY_ROOTS, URL

IMAGES = ImageDefaults(
    policy=parse_resource_uri("kbs:///default/security-policy/test"),
    auth=parse_resource_uri("kbs:///default/credential/test"),
    ca_pem="".join(REGISTRY_ROOTS),
)


def address(file: str) -> KbsAddress:
    return KbsAddress(url=URL, ca_pem=CERTIFICATE, file=file)


def refused(aa: str | None, cdh: str | None) -> FormatError:
    with pytest.raises(FormatError) as caught:
        parse_coco_settings(aa, cdh)
    return caught.value


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def address_cases(table: str, certificate: str, quotes: str) -> dict[str, tuple[str, str, str]]:
    """What either file can get wrong of where the KBS is: old text, new text and the reason.

    Args:
        table: as reasons name it.
        certificate: key of the certificate.
        quotes: around it.
    """
    given = f"{certificate} = {quotes}\n{CERTIFICATE}{quotes}"
    return {
        "no-url": (f'url = "{URL}"', "", f"{table}.url"),
        "http": ("https:", "http:", f"{table}.url"),
        "no-certificate": (given, "", f"{table}.{certificate}"),
        "empty-certificate": (CERTIFICATE, "", f"{table}.{certificate}"),
        "unknown": (given, f"x = 1\n{given}", f"{table}.unknown"),
    }


@pytest.mark.parametrize(
    ("aa", "cdh", "settings"),
    [
        pytest.param(None, None, CocoSettings(), id="neither"),
        pytest.param(AA, None, CocoSettings(kbs=address("aa.toml")), id="aa"),
        pytest.param(None, KBC, CocoSettings(kbs=address("cdh.toml")), id="kbc"),
        pytest.param(None, IMAGE, CocoSettings(images=IMAGES), id="image"),
        pytest.param(None, CDH, CocoSettings(kbs=address("cdh.toml"), images=IMAGES), id="cdh"),
        pytest.param(AA, CDH, CocoSettings(kbs=address("aa.toml"), images=IMAGES), id="both"),
        pytest.param(AA, IMAGE, CocoSettings(kbs=address("aa.toml"), images=IMAGES), id="split"),
    ],
)
def test_settings_that_have_an_equal_are_taken_over(
    aa: str | None, cdh: str | None, settings: CocoSettings
) -> None:
    assert parse_coco_settings(aa, cdh) == settings


def test_no_roots_are_the_same_as_none_named() -> None:
    cdh = KBC + "[image]\nextra_root_certificates = []\n"
    assert parse_coco_settings(None, cdh).images == ImageDefaults()


def test_roots_may_be_as_many_as_a_pods_own() -> None:
    roots = f"{CERTIFICATE.strip()}\n" * 200
    text = f"[image]\nextra_root_certificates = ['''{roots}''', '''{roots}''']\n"
    assert parse_coco_settings(None, text).images.ca_pem == roots * 2


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        pytest.param("[token_configs]", "[token_configs", "aa.toml", id="not-toml"),
        pytest.param(AA, "", "aa.token_configs", id="empty"),
        pytest.param("[token_configs.kbs]", "[x]", "aa.token_configs.kbs", id="no-kbs"),
        pytest.param(":8443", ":8443/kbs", "aa.token_configs.kbs.url", id="path"),
        *(
            pytest.param(*case, id=name)
            for name, case in address_cases("aa.token_configs.kbs", "cert", "'''").items()
        ),
        pytest.param(CERTIFICATE, "cert", "aa.token_configs.kbs.cert", id="no-pem"),
        pytest.param("cert =", "kbs_cert =", "aa.token_configs.kbs.cert", id="other-files-key"),
        pytest.param(
            "cert =",
            'tee_key_algorithm = "RSA-OAEP-256"\ncert =',
            "aa.token_configs.kbs.tee_key_algorithm",
            id="tee-key",
        ),
        pytest.param(
            "cert =",
            'attestation_policy_selector = "shop"\ncert =',
            "aa.token_configs.kbs.attestation_policy_selector",
            id="policy-selector",
        ),
        pytest.param(
            "[token_configs]",
            '[token_configs]\n[token_configs.coco_as]\nurl = "http://127.0.0.1:8000"',
            "aa.token_configs.coco_as",
            id="coco-as",
        ),
        pytest.param(
            "[token_configs]", "[token_configs]\nx = 1", "aa.token_configs.unknown", id="token-key"
        ),
        pytest.param(
            "[token_configs]",
            "[eventlog_config]\ninit_pcr = 17\nenable_eventlog = false\n[token_configs]",
            "aa.eventlog_config",
            id="event-log",
        ),
        pytest.param(
            "[token_configs]", '[log]\nlevel = "info"\n[token_configs]', "aa.log", id="log"
        ),
        pytest.param("[token_configs]", "[x]\n[token_configs]", "aa.unknown", id="key"),
    ],
)
def test_anything_else_in_aa_toml_is_refused_by_its_key(old: str, new: str, reason: str) -> None:
    assert parse_coco_settings(AA, None).kbs == address("aa.toml")
    assert refused(changed(AA, old, new), None).reason == reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        pytest.param("[kbc]", "[kbc", "cdh.toml", id="not-toml"),
        pytest.param(CDH, "", "cdh.empty", id="empty"),
        pytest.param(CDH, "[image]\n", "cdh.empty", id="empty-image"),
        pytest.param('name = "cc_kbc"\n', "", "cdh.kbc.name", id="no-name"),
        pytest.param("cc_kbc", "offline_fs_kbc", "cdh.kbc.name", id="offline"),
        pytest.param(URL, "", "cdh.kbc.url", id="empty-url"),
        *(
            pytest.param(*case, id=name)
            for name, case in address_cases("cdh.kbc", "kbs_cert", '"""').items()
        ),
        pytest.param("[kbc]", 'socket = "unix:///s"\n[kbc]', "cdh.socket", id="socket"),
        pytest.param("[kbc]", 'services_dir = "/s"\n[kbc]', "cdh.services_dir", id="services"),
        pytest.param("[kbc]", '[aa]\naa_socket = "unix:///s"\n[kbc]', "cdh.aa", id="agent"),
        pytest.param("[kbc]", '[log]\nlevel = "info"\n[kbc]', "cdh.log", id="log"),
        pytest.param(
            "[kbc]",
            '[[credentials]]\npath = "/run/x"\nresource_uri = "kbs:///a/b/c"\n[kbc]',
            "cdh.credentials",
            id="credentials",
        ),
        pytest.param("[kbc]", "credentials = []\n[kbc]", "cdh.credentials", id="no-credentials"),
        pytest.param(
            "[kbc]",
            "skip_sealed_secret_verification = true\n[kbc]",
            "cdh.skip_sealed_secret_verification",
            id="unsigned-secrets",
        ),
        pytest.param("[kbc]", "x = 1\n[kbc]", "cdh.unknown", id="key"),
        pytest.param(
            "kbs:///default/security",
            "file:///etc",
            "cdh.image.image_security_policy_uri",
            id="policy-in-a-file",
        ),
        pytest.param(
            "kbs:///default/credential/test",
            "kbs://kbs.example/default/credential/test",
            "cdh.image.authenticated_registry_credentials_uri",
            id="authority",
        ),
        pytest.param(
            CERTIFICATE.replace("AA", "CC"),
            "/etc/ca.pem",
            "cdh.image.extra_root_certificates",
            id="no-pem",
        ),
        pytest.param(
            f'["""\n{REGISTRY_ROOTS[0]}"""',
            "[" + ", ".join([f'"""{REGISTRY_ROOTS[0]}{"#" * 40_000}"""'] * 2),
            "cdh.image.extra_root_certificates",
            id="too-many-bytes",
        ),
        *(
            pytest.param("[image]", f"[image]\n{key} = {value}", f"cdh.image.{key}", id=key)
            for key, value in (
                ("anonymous_fallback_on_unauthorized", "false"),
                ("image_pull_proxy", '{ https_proxy = "http://127.0.0.1:5432" }'),
                ("image_security_policy", '\'{"default": [{"type": "reject"}]}\''),
                ("max_concurrent_layer_downloads_per_image", "3"),
                ("registry_config", '{ unqualified-search-registries = ["docker.io"] }'),
                ("registry_configuration_uri", '"kbs:///default/registry-configuration/test"'),
                ("sigstore_config", '""'),
                ("sigstore_config_uri", '"kbs:///default/sigstore-config/test"'),
                ("work_dir", '"/run/image-rs"'),
            )
        ),
        pytest.param("[image]", "[image]\nx = 1", "cdh.image.unknown", id="image-key"),
    ],
)
def test_anything_else_in_cdh_toml_is_refused_by_its_key(old: str, new: str, reason: str) -> None:
    assert parse_coco_settings(None, CDH).kbs == address("cdh.toml")
    assert refused(None, changed(CDH, old, new)).reason == reason


def test_key_that_nobody_knows_is_named() -> None:
    assert "'surprise'" in refused(AA + "surprise = 1\n", None).detail


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        pytest.param("kbs.example", "kbs.other.example", "url", id="url"),
        pytest.param("AA==", "AAA=", "kbs_cert", id="certificate"),
    ],
)
def test_two_files_that_name_different_kbses_are_refused(old: str, new: str, named: str) -> None:
    other = changed(CDH, old, new)
    assert parse_coco_settings(None, other) != parse_coco_settings(None, CDH)  # by itself fine
    error = refused(AA, other)
    assert (error.reason, error.detail.split()[0]) == ("cdh.kbc.differs", named)
