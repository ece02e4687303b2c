"""Mirrors and rewriting: the cases of containers-registries.conf(5) that the guest honours."""

import tomllib

import pytest

from ccinit.errors import CcinitError
from ccinit.formats.encoding import wire
from ccinit.formats.encoding.fields import Fields
from ccinit.formats.oci.reference import parse_image_reference
from ccinit.formats.oci.registries import (
    RegistryRule,
    plan_sources,
    read_registry,
    rule_keys,
    select_rule,
)

HEX = "0123456789abcdef" * 4
DIGEST = f"@sha256:{HEX}"
ROOTS = "-----BEGIN CERTIFICATE-----"
APP = f"registry.example:5000/team/app{DIGEST}"


def rules(text: str) -> tuple[RegistryRule, ...]:
    with Fields(tomllib.loads(text), "pod") as fields:
        return fields.tables("registry", read_registry)


def places(text: str, name: str = APP) -> list[str]:
    reference = parse_image_reference(name)
    rule = select_rule(rules(text), reference)
    return [source.reference.text for source in plan_sources(rule, reference, "image's roots")]


def refusal(text: str, name: str = APP) -> str:
    with pytest.raises(CcinitError) as refused:
        places(text, name)
    return refused.value.reason


def test_image_without_a_rule_has_one_source() -> None:
    assert places("") == [APP]
    assert places('[[registry]]\nprefix = "registry.example"') == [APP]


def test_location_replaces_the_prefix_and_keeps_the_digest() -> None:
    text = '[[registry]]\nprefix = "registry.example:5000/team"\nlocation = "in.example/x/y"'
    assert places(text) == [f"in.example/x/y/app{DIGEST}"]
    text = '[[registry]]\nprefix = "registry.example:5000/team/app"\nlocation = "in.example/z"'
    assert places(text) == [f"in.example/z{DIGEST}"]


def test_places_may_be_addresses_of_version_6() -> None:
    text = """
        [[registry]]
        prefix = "[fd00::5]:5000/team"
        location = "[fd00::6]/x"
        proxy = "[fd00::7]:3128"
    """
    name = f"[fd00::5]:5000/team/app{DIGEST}"
    assert places(text, name) == [f"[fd00::6]/x/app{DIGEST}"]
    assert rules(text)[0].location.access.proxy == "[fd00::7]:3128"


def test_mirrors_come_first_and_in_order() -> None:
    text = """
        [[registry]]
        prefix = "registry.example:5000"
        [[registry.mirror]]
        location = "one.example/cache"
        [[registry.mirror]]
        location = "tags.example"
        pull-from-mirror = "tag-only"
        [[registry.mirror]]
        location = "two.example:8443"
        pull-from-mirror = "digest-only"
    """
    assert places(text) == [
        f"one.example/cache/team/app{DIGEST}",
        f"two.example:8443/team/app{DIGEST}",
        APP,
    ]


def test_longest_prefix_wins_whatever_the_order() -> None:
    text = """
        [[registry]]
        prefix = "registry.example:5000/team"
        location = "long.example"
        [[registry]]
        prefix = "registry.example:5000"
        location = "short.example"
        [[registry]]
        prefix = "*.example"
        blocked = true
    """
    assert places(text) == [f"long.example/app{DIGEST}"]
    assert places(text, f"registry.example:5000/other{DIGEST}") == [f"short.example/other{DIGEST}"]
    assert refusal(text, f"x.y.example/a{DIGEST}") == "registry.blocked"


def test_longer_of_two_domains_wins_whatever_the_order() -> None:
    blocked = '[[registry]]\nprefix = "*.a.example"\nblocked = true\n'
    wider = '[[registry]]\nprefix = "*.example"\n'
    for text in (blocked + wider, wider + blocked):
        assert refusal(text, f"x.a.example/app{DIGEST}") == "registry.blocked"
        assert places(text, f"x.b.example/app{DIGEST}") == [f"x.b.example/app{DIGEST}"]


def test_keys_of_a_rule_are_those_of_its_mirrors_and_of_its_own_place() -> None:
    access = f'certificate = "{ROOTS}"\nkey = "kbs:///default/client/'
    text = f"""
        [[registry]]
        prefix = "registry.example:5000"
        {access}own"
        [[registry.mirror]]
        location = "one.example"
        {access}mirror"
    """
    (rule,) = rules(text)
    assert [key.tag for key in rule_keys(rule)] == ["mirror", "own"]


@pytest.mark.parametrize(
    "prefix",
    [
        "registry.example",
        "registry.example:500",
        "registry.example:5000/tea",
        "registry.example:5000/team/app/more",
        "*.registry.example",
        "*.ample",
    ],
)
def test_prefix_ends_where_a_component_does(prefix: str) -> None:
    assert places(f'[[registry]]\nprefix = "{prefix}"\nblocked = true') == [APP]


@pytest.mark.parametrize(
    "prefix",
    [
        "registry.example:5000",
        "registry.example:5000/team",
        "registry.example:5000/team/app",
        "*.example",
    ],
)
def test_blocked_registry_is_asked_nothing(prefix: str) -> None:
    assert refusal(f'[[registry]]\nprefix = "{prefix}"\nblocked = true') == "registry.blocked"


def test_registry_without_a_prefix_is_its_location() -> None:
    text = f'[[registry]]\nlocation = "registry.example:5000"\nca = "{ROOTS}"'
    reference = parse_image_reference(APP)
    (source,) = plan_sources(select_rule(rules(text), reference), reference, "image's roots")
    assert (source.reference, source.access.ca_pem) == (reference, ROOTS)


def test_registry_with_empty_roots_has_the_images() -> None:
    text = '[[registry]]\nlocation = "registry.example:5000"\nca = ""'
    reference = parse_image_reference(APP)
    (source,) = plan_sources(select_rule(rules(text), reference), reference, "image's roots")
    assert source.access.ca_pem == "image's roots"


def test_every_location_has_its_own_access() -> None:
    text = f"""
        [[registry]]
        prefix = "registry.example:5000"
        proxy = "proxy.example:3128"
        [[registry.mirror]]
        location = "one.example"
        ca = "{ROOTS}"
        certificate = "{ROOTS}"
        key = "kbs:///default/client/key"
    """
    reference = parse_image_reference(APP)
    rule = select_rule(rules(text), reference)
    mirror, registry = (source.access for source in plan_sources(rule, reference, "image's roots"))
    assert (mirror.ca_pem, mirror.certificate_pem, mirror.proxy) == (ROOTS, ROOTS, "")
    assert (registry.ca_pem, registry.certificate_pem) == ("image's roots", "")
    assert registry.proxy == "proxy.example:3128"
    assert registry.key is None
    assert rule_keys(rule) == (mirror.key,)
    assert rule_keys(None) == ()
    assert wire.decode(RegistryRule, wire.encode(rule)) == rule


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (f"docker.io/library/nginx{DIGEST}", f"registry-1.docker.io/library/nginx{DIGEST}"),
        (f"docker.io/nginx{DIGEST}", f"registry-1.docker.io/library/nginx{DIGEST}"),
        (f"docker.io/team/app{DIGEST}", f"registry-1.docker.io/team/app{DIGEST}"),
        (f"index.docker.io/nginx{DIGEST}", f"registry-1.docker.io/library/nginx{DIGEST}"),
        (f"index.docker.io/team/app{DIGEST}", f"registry-1.docker.io/team/app{DIGEST}"),
    ],
)
def test_docker_hub_is_asked_where_it_answers(name: str, place: str) -> None:
    assert places("", name) == [place]
    mirrored = '[[registry]]\nprefix = "docker.io"\nlocation = "mirror.example/hub"'
    path = place.removeprefix("registry-1.docker.io/")
    assert places(mirrored, name) == [f"mirror.example/hub/{path}"]


def test_official_image_of_docker_hub_is_one_of_its_namespace() -> None:
    text = '[[registry]]\nprefix = "docker.io/library"\nblocked = true'
    assert refusal(text, f"docker.io/nginx{DIGEST}") == "registry.blocked"
    assert refusal(text, f"docker.io/library/nginx{DIGEST}") == "registry.blocked"
    assert refusal(text, f"index.docker.io/nginx{DIGEST}") == "registry.blocked"
    assert places(text, f"docker.io/team/app{DIGEST}") == [f"registry-1.docker.io/team/app{DIGEST}"]


def test_prefix_that_names_the_host_comes_before_one_for_every_host() -> None:
    text = """
        [[registry]]
        prefix = "*.example"
        blocked = true
        [[registry]]
        prefix = "r.example"
    """
    assert places(text, f"r.example/app{DIGEST}") == [f"r.example/app{DIGEST}"]
    assert refusal(text, f"s.example/app{DIGEST}") == "registry.blocked"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("insecure = true", "pod.registry.unknown"),
        ("unqualified-search-registries = []", "pod.registry.unknown"),
        ("mirror-by-digest-only = true", "pod.registry.unknown"),
        ('location = "https://in.example"', "pod.registry.location"),
        ('location = "in.example/a:tag"', "pod.registry.location"),
        ('proxy = "proxy.example"', "pod.registry.proxy"),
        ('proxy = "::1:3128"', "pod.registry.proxy"),
        ('proxy = "300.0.2.7:3128"', "pod.registry.proxy"),
        ('proxy = "[::1]"', "pod.registry.proxy"),
        ('proxy = "[::1"', "pod.registry.proxy"),
        ('proxy = "[proxy.example]:3128"', "pod.registry.proxy"),
        ('location = "::1"', "pod.registry.location"),
        ('proxy = "proxy.example:0"', "pod.registry.proxy"),
        ('proxy = "proxy.example:70000"', "pod.registry.proxy"),
        ('proxy = "http://proxy.example:3128"', "pod.registry.proxy"),
        ('proxy = "user@proxy.example:3128"', "pod.registry.proxy"),
        ('proxy = "proxy.example:3128/path"', "pod.registry.proxy"),
        ('location = "team/app"', "pod.registry.location"),
        ('location = "In.example"', "pod.registry.location"),
        ('location = "in.example:99999"', "pod.registry.location"),
        ('mirror = [{location = "mirror"}]', "pod.registry.location"),
        ('ca = "roots"', "pod.registry.ca"),
        ('mirror = [{location = "a.example", ca = "roots"}]', "pod.registry.ca"),
        (f'certificate = "{ROOTS}"', "pod.registry.key"),
        ('certificate = "pem"\nkey = "kbs:///a/b/c"', "pod.registry.certificate"),
        ('key = "kbs:///a/b/c"', "pod.registry.key"),
        (f'certificate = "{ROOTS}"\nkey = "/etc/key"', "pod.registry.key"),
        ("mirror = [{}]", "pod.registry.mirror.location"),
        (
            'mirror = [{location = "a.example", insecure = true}]',
            "pod.registry.mirror.unknown",
        ),
        (
            'mirror = [{location = "a.example", pull-from-mirror = "never"}]',
            "pod.registry.mirror.pull-from-mirror",
        ),
        ("mirror = [" + '{location = "a.example"},' * 8 + "]", "pod.registry.mirror"),
    ],
)
def test_what_cannot_be_honoured_is_refused(line: str, reason: str) -> None:
    assert refusal(f'[[registry]]\nprefix = "registry.example"\n{line}') == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "pod.registry.prefix"),
        ('prefix = "registry.example/"', "pod.registry.prefix"),
        ('prefix = "*.example"\nlocation = "x.example"', "pod.registry.location"),
        ('prefix = "Registry.example"\nblocked = true', "pod.registry.prefix"),
        ('prefix = "registry.example:05000"\nblocked = true', "pod.registry.prefix"),
        ('prefix = "[::1"\nblocked = true', "pod.registry.prefix"),
        ('prefix = "registry.example:65536"\nblocked = true', "pod.registry.prefix"),
        ('prefix = "registry"\nblocked = true', "pod.registry.prefix"),
        ('prefix = "registry.example/app:v1"\nblocked = true', "pod.registry.prefix"),
        ('prefix = "index.docker.io/team"\nblocked = true', "pod.registry.prefix"),
        ('prefix = "*.example:5000"\nblocked = true', "pod.registry.prefix"),
        ('prefix = "*.example/team"\nblocked = true', "pod.registry.prefix"),
        ('prefix = "*.*.example"\nblocked = true', "pod.registry.prefix"),
        ('prefix = "*."', "pod.registry.prefix"),
        ('prefix = "*"', "pod.registry.prefix"),
    ],
)
def test_prefix_that_is_none_is_refused(text: str, reason: str) -> None:
    assert refusal(f"[[registry]]\n{text}") == reason
