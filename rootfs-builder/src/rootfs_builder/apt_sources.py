"""Find the package archives that the host uses, and address another release of them.

A build must work behind whatever mirror its host uses, so no file here contains an address: the
addresses come from the host's own apt configuration, with the keyring that it names. Only Debian's
main and security archives are kept; vendors' archives and `deb-src` lines are not. Fetching is left
to apt, mmdebstrap and mkosi.

Specification: sources.list(5), both the one-line and the deb822 form; apt-transport-mirror(1).
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ccinit.errors import ConfigError
from measured_boot.command_line.files import read_text_capped

DEFAULT_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MIRROR_LISTS: Final = ("mirror+file://", "mirror+file:", "mirror:file:")
_NO: Final = frozenset({"no", "false", "without", "off", "disable", "0"})
_RELEASES: Final = frozenset(
    {"bullseye", "bookworm", "trixie", "forky", "duke", "sid"}
    | {"stable", "oldstable", "oldoldstable", "testing", "unstable"}
)
# Settings of the host's apt that a build behind the same mirror needs, too.
_KEPT_SETTINGS: Final = (
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::https::CaInfo",
    "Acquire::https::Verify-Peer",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Retries",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AptSource:
    """One archive as apt addresses it.

    Attributes:
        uri: base address of the archive.
        suites: suites or, for archives of one suite, its name.
        components: at least one.
        signed_by: path of the keyring that signs it; empty if apt's own default applies.
    """

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


def read_host_sources(directory: Path = Path("/etc/apt")) -> tuple[AptSource, ...]:
    """Return all archives that the host's apt reads, in apt's order.

    A mirror list file, as in Debian's cloud images, is replaced by its first mirror, since the file
    is the host's and is not visible where these addresses are used.

    Raises:
        ConfigError: `apt.sources`.
    """
    sources: list[AptSource] = []
    one_line = directory / "sources.list"
    if one_line.is_file():
        sources += parse_one_line(read_text_capped(one_line))
    for path in sorted((directory / "sources.list.d").glob("*")):
        if path.suffix == ".sources":
            sources += parse_deb822(read_text_capped(path))
        elif path.suffix == ".list":
            sources += parse_one_line(read_text_capped(path))
    return tuple(replace(source, uri=_first_mirror(source.uri)) for source in sources)


def parse_deb822(text: str) -> tuple[AptSource, ...]:
    """Return the enabled binary archives of a deb822 sources file.

    Raises:
        ConfigError: a stanza embeds its key instead of naming a file.
    """
    return tuple(source for stanza in _stanzas(text) for source in _sources_of_stanza(stanza))


def parse_one_line(text: str) -> tuple[AptSource, ...]:
    """Return the binary archives of a one-line sources file.

    Raises:
        ConfigError: `apt.sources`: apt would not accept a line.
    """
    sources = []
    for line in text.splitlines():
        kind, *content = line.partition("#")[0].split(maxsplit=1) or [""]
        if kind != "deb":
            continue
        options, rest = _split_options("".join(content).strip())
        try:
            uri, suite, *components = shlex.split(rest)
        except ValueError as error:
            raise ConfigError("apt.sources", f"no archive and suite in {line[:80]!r}") from error
        sources.append(
            AptSource(
                uri=uri,
                suites=(suite,),
                components=tuple(components),
                signed_by=options.get("signed-by", ""),
            )
        )
    return tuple(sources)


def plan_sources(host: Iterable[AptSource], release: str) -> tuple[AptSource, ...]:
    """Return the Debian archives of `host` addressed for another release.

    The result always holds main, updates and security; updates of a snapshot-like mirror may be
    empty, but they exist.

    Raises:
        ConfigError: the host's configuration names no Debian archive or no security archive.
    """
    main: AptSource | None = None
    security: AptSource | None = None
    for source in host:
        if "main" not in source.components:
            continue
        names = {suite.split("-")[0].split("/")[0] for suite in source.suites}
        if not names <= _RELEASES:
            continue
        if any(suite.endswith(("-security", "/updates")) for suite in source.suites):
            security = security or source
        elif any("-" not in suite for suite in source.suites):
            main = main or source
    if main is None or security is None:
        what = "Debian archive" if main is None else "security archive"
        raise ConfigError("apt.sources", f"the host's apt configuration names no {what}")
    return (
        _address(main, (release, f"{release}-updates")),
        _address(security, (f"{release}-security",)),
    )


def encode_deb822(sources: Iterable[AptSource]) -> str:
    """Return a deb822 sources file."""
    return "\n".join(
        f"Types: deb\nURIs: {source.uri}\nSuites: {' '.join(source.suites)}\n"
        f"Components: {' '.join(source.components)}\nSigned-By: {source.signed_by}\n"
        for source in sources
    )


def encode_one_line(sources: Iterable[AptSource]) -> str:
    """Return a one-line sources file, the form that every mmdebstrap reads."""
    return "".join(
        f"deb [signed-by={source.signed_by}] {source.uri} {suite} {' '.join(source.components)}\n"
        for source in sources
        for suite in source.suites
    )


def select_settings(dump: str) -> str:
    """Return those lines of `apt-config dump` that fetching behind the same mirror needs."""
    kept = tuple(setting.lower() for setting in _KEPT_SETTINGS)
    lines = (line for line in dump.splitlines() if line.partition(" ")[0].lower().startswith(kept))
    return "".join(f"{line}\n" for line in lines)


def _first_mirror(uri: str) -> str:
    scheme = next((scheme for scheme in _MIRROR_LISTS if uri.startswith(scheme)), None)
    if scheme is None:
        return uri
    path = Path(uri.removeprefix(scheme))
    lines = (line.partition("#")[0].split() for line in read_text_capped(path).splitlines())
    mirror = next((words[0] for words in lines if words), None)
    if mirror is None:
        raise ConfigError("apt.sources", f"{path} names no mirror")
    return mirror


def _address(source: AptSource, suites: tuple[str, ...]) -> AptSource:
    return AptSource(
        uri=source.uri,
        suites=suites,
        components=("main",),
        signed_by=source.signed_by or DEFAULT_KEYRING,
    )


def _stanzas(text: str) -> Iterator[Mapping[str, str]]:
    stanza: dict[str, str] = {}
    key = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if stanza:
                yield stanza
            stanza, key = {}, ""
        elif line[0] in " \t":
            stanza[key] = f"{stanza.get(key, '')} {line.strip()}".strip()
        else:
            key, _, value = line.partition(":")
            key = key.strip().lower()
            stanza[key] = value.strip()


def _sources_of_stanza(stanza: Mapping[str, str]) -> Iterator[AptSource]:
    if "deb" not in stanza.get("types", "").split() or stanza.get("enabled", "yes").lower() in _NO:
        return
    signed_by = stanza.get("signed-by", "")
    if signed_by and not signed_by.startswith("/"):
        raise ConfigError("apt.sources", "Signed-By holds a key; name a keyring file instead")
    for uri in stanza.get("uris", "").split():
        yield AptSource(
            uri=uri,
            suites=tuple(stanza.get("suites", "").split()),
            components=tuple(stanza.get("components", "").split()),
            signed_by=signed_by,
        )


def _split_options(rest: str) -> tuple[Mapping[str, str], str]:
    if not rest.startswith("["):
        return {}, rest
    inner, _, after = rest[1:].partition("]")
    pairs = (option.partition("=") for option in inner.split())
    return {key.lower(): value for key, _, value in pairs}, after.strip()
