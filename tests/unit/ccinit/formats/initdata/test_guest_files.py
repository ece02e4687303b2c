"""Invariant: a document with CoCo's files is the same pod as one in the guest's own words."""

import pytest

from ccinit.errors import FormatError
from ccinit.formats.initdata.document import Initdata
from ccinit.formats.initdata.guest_files import parse_guest_files
from tests.fakes.documents.coco import (
    AA,
    BARE_CONFIG,
    BARE_POD,
    CDH,
    IMAGE,
    KBC,
    NAMES_IMAGE,
    NAMES_KBS,
    WHOLE_POD,
)
from tests.fakes.documents.guest import CONFIG, POD


def told(config: str, pod: str, aa: str | None = None, cdh: str | None = None) -> Initdata:
    return Initdata(algorithm="sha256", config_toml=config, pod_toml=pod, aa_toml=aa, cdh_toml=cdh)


@pytest.mark.parametrize(
    ("coco", "own"),
    [
        pytest.param(told(BARE_CONFIG, POD, AA), told(CONFIG, POD), id="aa"),
        pytest.param(told(BARE_CONFIG, POD, None, KBC), told(CONFIG, POD), id="kbc"),
        pytest.param(told(CONFIG, BARE_POD, None, IMAGE), told(CONFIG, WHOLE_POD), id="image"),
        pytest.param(
            told(BARE_CONFIG, BARE_POD, None, CDH), told(CONFIG, WHOLE_POD), id="cdh-alone"
        ),
        pytest.param(told(BARE_CONFIG, BARE_POD, AA, CDH), told(CONFIG, WHOLE_POD), id="both"),
    ],
)
def test_document_in_cocos_words_is_the_same_as_in_the_guests(
    coco: Initdata, own: Initdata
) -> None:
    assert coco != own
    assert parse_guest_files(coco) == parse_guest_files(own)


@pytest.mark.parametrize(
    ("fine", "wrong", "reason"),
    [
        ("kbs:///a/b/c", "kbs:///ccinit/shop/log-psk", "pod.resource"),
        ("kbs:///a/b/c", "kbs+nebula-ca:///credential?name=pod", "pod.secret.uri"),
    ],
)
def test_what_only_one_of_two_files_may_say_is_refused(fine: str, wrong: str, reason: str) -> None:
    """So nobody registers a document that no guest would start with."""
    secret = '[[secret]]\ncontainer = "web"\nuri = "{}"\nfile = "/run/x"\n'
    parse_guest_files(told(CONFIG, POD + secret.format(fine)))
    with pytest.raises(FormatError) as caught:
        parse_guest_files(told(CONFIG, POD + secret.format(wrong)))
    assert caught.value.reason == reason


@pytest.mark.parametrize("probe", ["ready", "alive"])
def test_probe_that_the_owner_plane_would_answer_is_refused(probe: str) -> None:
    """PID 1 listens there at the pod's address: such a probe never fails."""
    owner = '\n[owner]\nport = 8443\nclient_ca = "-----BEGIN CERTIFICATE-----"\n'
    pod = POD.replace("[[secret]]", f"[container.{probe}]\ntcp_port = 8443\n[[secret]]", 1)
    parse_guest_files(told(CONFIG, pod))
    parse_guest_files(told(CONFIG + owner.replace("8443", "8444"), pod))
    with pytest.raises(FormatError) as caught:
        parse_guest_files(told(CONFIG + owner, pod))
    assert caught.value.reason == "pod.container.probe"


@pytest.mark.parametrize("probe", ["ready", "alive"])
def test_probe_by_a_program_has_no_port_that_an_owner_plane_without_one_could_answer(
    probe: str,
) -> None:
    """Without a port the owner plane is there through `relay` only; each says so by a 0."""
    owner = "\n[owner]\nclient_ca = '-----BEGIN CERTIFICATE-----'\n"
    table = f'[container.{probe}]\nexec = ["/bin/check"]\n[[secret]]'
    config, manifest = parse_guest_files(told(CONFIG + owner, POD.replace("[[secret]]", table, 1)))
    assert config.owner is not None
    assert config.owner.port == 0
    assert any((one.ready, one.alive) != (None, None) for one in manifest.containers)


def test_guests_identity_is_a_resource_of_its_own_only_if_there_is_an_owner_plane() -> None:
    secret = '[[secret]]\ncontainer = "web"\nuri = "kbs:///ccinit/shop/tls-identity"\nfile = "/x"\n'
    parse_guest_files(told(CONFIG, POD + secret))
    owner = "[owner]\nclient_ca = '-----BEGIN CERTIFICATE-----'\n"
    with pytest.raises(FormatError) as caught:
        parse_guest_files(told(CONFIG + owner, POD + secret))
    assert caught.value.reason == "pod.resource"


def test_plugins_reply_is_for_pods_that_ask_for_no_envelope() -> None:
    uri = "kbs+nebula-ca:///credential?name=pod"
    secret = f'[[secret]]\ncontainer = "web"\nuri = "{uri}"\nfile = "/x"\n'
    plain = CONFIG.replace('envelope = "required"', 'envelope = "none"')
    _, manifest = parse_guest_files(told(plain, POD + secret))
    assert str(manifest.secrets[1].uri) == uri


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        pytest.param(told(BARE_CONFIG, WHOLE_POD, None, None), "ccinit.kbs.url", id="kbs"),
        pytest.param(told(BARE_CONFIG, BARE_POD, None, IMAGE), "ccinit.kbs.url", id="kbs-image"),
        pytest.param(told(BARE_CONFIG, BARE_POD, AA, KBC), "pod.image.ca", id="image"),
    ],
)
def test_what_nobody_says_is_missing(missing: Initdata, reason: str) -> None:
    parse_guest_files(told(BARE_CONFIG, BARE_POD, AA, CDH))
    with pytest.raises(FormatError) as caught:
        parse_guest_files(missing)
    assert caught.value.reason == reason
    assert caught.value.detail.endswith("missing")


@pytest.mark.parametrize("key", NAMES_KBS)
@pytest.mark.parametrize(
    ("aa", "cdh", "by"), [(AA, None, "aa.toml"), (None, KBC, "cdh.toml"), (AA, KBC, "aa.toml")]
)
def test_kbs_that_ccinit_toml_names_too_is_refused(
    key: str, aa: str | None, cdh: str | None, by: str
) -> None:
    parse_guest_files(told(BARE_CONFIG, POD, aa, cdh))
    twice = BARE_CONFIG.replace("[kbs]\n", f"[kbs]\n{key}")  # though it says the same
    with pytest.raises(FormatError) as caught:
        parse_guest_files(told(twice, POD, aa, cdh))
    assert caught.value.reason == "ccinit.kbs.twice"
    assert by in caught.value.detail
    assert f"{key.split(maxsplit=1)[0]} is here" in caught.value.detail


@pytest.mark.parametrize("key", [*NAMES_IMAGE, 'policy = "kbs:///a/b/c"\n'])
@pytest.mark.parametrize("which", ["first", "second"])
def test_setting_that_an_image_names_too_is_refused(key: str, which: str) -> None:
    first = BARE_POD.partition("[[image]]\n")[2].partition("[[container]]")[0]
    second = first.replace('"web"', '"db"')
    pod = BARE_POD.replace("[[container]]", f"[[image]]\n{second}[[container]]", 1)
    _, manifest = parse_guest_files(told(CONFIG, pod, None, IMAGE))
    assert len({(image.policy, image.auth, image.ca_pem) for image in manifest.images}) == 1
    assert [image.name for image in manifest.images] == ["web", "db"]
    one = first if which == "first" else second
    with pytest.raises(FormatError) as caught:
        parse_guest_files(told(CONFIG, pod.replace(one, one + key, 1), None, IMAGE))
    assert caught.value.reason == "pod.image.twice"
    assert f"says {key.split(maxsplit=1)[0]} for" in caught.value.detail


@pytest.mark.parametrize("key", ["policy", "auth", "ca"])
def test_image_may_name_what_cdh_toml_does_not(key: str) -> None:
    cdh = {
        "policy": IMAGE.replace(
            'image_security_policy_uri = "kbs:///default/security-policy/test"\n', ""
        ),
        "auth": IMAGE.replace(
            'authenticated_registry_credentials_uri = "kbs:///default/credential/test"\n', ""
        ),
        "ca": IMAGE.partition("extra_root")[0],
    }[key]
    line = {"policy": 'policy = "kbs:///a/b/c"\n', "auth": NAMES_IMAGE[0], "ca": NAMES_IMAGE[1]}[
        key
    ]
    pod = BARE_POD.replace("[[container]]\n", f"{line}[[container]]\n", 1)
    _, manifest = parse_guest_files(told(CONFIG, pod, None, cdh))
    _, whole = parse_guest_files(told(CONFIG, WHOLE_POD))
    name = "ca_pem" if key == "ca" else key
    for one in ("policy", "auth", "ca_pem"):
        same = getattr(manifest.images[0], one) == getattr(whole.images[0], one)
        assert same == (one != name)
