"""Archives are found in every form of the host's configuration, and nothing else is."""

from pathlib import Path

import pytest

from ccinit.errors import ConfigError
from rootfs_builder.apt_sources import (
    DEFAULT_KEYRING,
    AptSource,
    encode_deb822,
    encode_one_line,
    parse_deb822,
    parse_one_line,
    plan_sources,
    read_host_sources,
    select_settings,
)

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
"""
ONE_LINE = """\
deb [arch=amd64 signed-by=/keys/a.gpg] http://mirror.example/debian bookworm main non-free
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/security bookworm-security main  # of Debian
"""
MAIN = AptSource(
    uri="http://mirror.example/debian", suites=("bookworm",), components=("main",), signed_by="/k"
)
SECURITY = AptSource(
    uri="http://mirror.example/security", suites=("bookworm-security",), components=("main",)
)
VENDOR = AptSource(uri="http://vendor.example", suites=("stable-tool",), components=("main",))


def test_deb822_file_gives_each_stanza() -> None:
    main, security = parse_deb822(DEB822)
    assert main.suites == ("bookworm", "bookworm-updates")
    assert main.components == ("main", "contrib")
    assert main.signed_by == "/usr/share/keyrings/debian.gpg"
    assert security == SECURITY


def test_deb822_stanza_that_is_off_or_source_only_gives_nothing() -> None:
    assert parse_deb822(DEB822.replace("Types: deb", "Enabled: no\nTypes: deb")) == ()
    assert parse_deb822("Types: deb-src\nURIs: http://x\nSuites: a\nComponents: main\n") == ()


@pytest.mark.parametrize("word", ["no", "No", "false", "without", "off", "disable", "0"])
def test_deb822_stanza_is_off_by_every_word_that_apt_takes_for_no(word: str) -> None:
    assert len(parse_deb822(f"Enabled: yes\n{DEB822}")) == 2
    assert parse_deb822(DEB822.replace("Types: deb", f"Enabled: {word}\nTypes: deb")) == ()


def test_deb822_value_over_several_lines_is_one_value() -> None:
    text = "Types: deb\nURIs: http://x\nSuites: a\n b\nComponents: main\n"
    assert parse_deb822(text)[0].suites == ("a", "b")


def test_deb822_with_a_key_in_it_is_refused() -> None:
    text = DEB822.replace(
        "/usr/share/keyrings/debian.gpg", "\n -----BEGIN PGP PUBLIC KEY BLOCK-----"
    )
    with pytest.raises(ConfigError) as error:
        parse_deb822(text)
    assert error.value.reason == "apt.sources"


def test_one_line_file_gives_binary_archives_with_their_keyring() -> None:
    main, security = parse_one_line(ONE_LINE)
    assert (main.uri, main.signed_by) == ("http://mirror.example/debian", "/keys/a.gpg")
    assert main.components == ("main", "non-free")
    assert security == SECURITY


def test_one_line_file_may_have_tabs_between_its_words() -> None:
    assert parse_one_line(ONE_LINE.replace(" ", "\t")) == parse_one_line(ONE_LINE)
    assert parse_one_line("  deb\t[ arch=amd64 ]\thttp://x  a\tmain\n")[0].suites == ("a",)


@pytest.mark.parametrize(
    "line", ["deb", "deb http://x", "deb [arch=amd64]", "deb http://x 'a main"]
)
def test_one_line_that_apt_would_not_take_is_refused(line: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_one_line(f"{ONE_LINE}{line}\n")
    assert error.value.reason == "apt.sources"


def test_list_of_mirrors_stands_for_the_first_of_them(tmp_path: Path) -> None:
    """Debian's cloud images name no archive otherwise."""
    mirrors = tmp_path / "mirrors.list"
    mirrors.write_text("# of this cloud\n\nhttp://one.example/debian\tpriority:1\nhttp://two/\n")
    (tmp_path / "sources.list.d").mkdir()
    sources = tmp_path / "sources.list.d/debian.sources"
    for form in ("mirror+file://", "mirror+file:", "mirror:file:"):
        text = DEB822.replace("http://mirror.example/debian", f"{form}{mirrors}")
        sources.write_text(text)
        main, security = read_host_sources(tmp_path)
        assert main.uri == "http://one.example/debian"
        assert security == SECURITY
    for content in ("", "# nothing\n"):
        mirrors.write_text(content)
        with pytest.raises(ConfigError) as error:
            read_host_sources(tmp_path)
        assert error.value.reason == "apt.sources"
        assert str(mirrors) in error.value.detail


def test_both_forms_are_read_in_apts_order(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("deb http://first.example bookworm main\n")
    (parts / "b.list").write_text("deb http://third.example bookworm main\n")
    (parts / "a.sources").write_text(DEB822)
    (parts / "c.list.disabled").write_text("deb http://never.example bookworm main\n")
    uris = [source.uri for source in read_host_sources(tmp_path)]
    assert uris == [
        "http://first.example",
        "http://mirror.example/debian",
        "http://mirror.example/security",
        "http://third.example",
    ]


def test_plan_addresses_another_release_of_main_and_security() -> None:
    main, security = plan_sources((VENDOR, MAIN, SECURITY), "trixie")
    assert (main.uri, main.suites) == (MAIN.uri, ("trixie", "trixie-updates"))
    assert (security.uri, security.suites) == (SECURITY.uri, ("trixie-security",))
    assert (main.signed_by, security.signed_by) == ("/k", DEFAULT_KEYRING)


@pytest.mark.parametrize("host", [(VENDOR, SECURITY), (MAIN, VENDOR), ()])
def test_plan_without_main_or_security_is_refused(host: tuple[AptSource, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        plan_sources(host, "trixie")
    assert error.value.reason == "apt.sources"


def test_encoded_sources_read_back_as_they_were() -> None:
    sources = plan_sources((MAIN, SECURITY), "trixie")
    assert parse_deb822(encode_deb822(sources)) == sources
    suites = [source.suites for source in parse_one_line(encode_one_line(sources))]
    assert suites == [("trixie",), ("trixie-updates",), ("trixie-security",)]


def test_settings_kept_are_those_of_the_way_to_the_mirror() -> None:
    dump = (
        'APT::Architecture "amd64";\n'
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::Check-Valid-Until "false";\n'
        'DPkg::Post-Invoke:: "rm -rf /";\n'
    )
    assert select_settings(dump).splitlines() == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::Check-Valid-Until "false";',
    ]
