"""TCP addresses on a command line: HOST:PORT, an IPv6 host in brackets."""

from typing import Final

_MAX_DIGITS: Final = 5
_MAX_PORT: Final = 0xFFFF


def parse_port(text: str) -> int | None:
    """Return a port, 0 included; None if the text is not a port."""
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS:
        return None
    return int(text) if int(text) <= _MAX_PORT else None


def split_address(text: str) -> tuple[str, int] | None:
    """Return host, without brackets, and port; None if the text is no address. "" is no host."""
    host, _, port_text = text.rpartition(":")
    port = parse_port(port_text)
    if port is None or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        return None
    host = host.removeprefix("[").removesuffix("]")
    return (host, port) if is_resolvable(host) else None


def is_resolvable(host: str) -> bool:
    """Whether a resolver can be asked for it at all: `socket` fails otherwise, not as `OSError`."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def join_address(host: str, port: int) -> str:
    """Return the text of an address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
