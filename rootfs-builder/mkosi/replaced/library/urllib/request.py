"""Stands in for urllib.request: httpx imports it beside its own client, for three names.

The library's own is a second client for HTTP, FTP and files, with tempfile, shutil and http.client.
"""

from typing import NoReturn


class Request:
    """What httpx shows a cookie jar of a request; ours does not look."""

    def __init__(self, url: str, headers: object, method: str) -> None:
        """Keep nothing."""


def getproxies() -> NoReturn:
    """Refuse: proxies are named by the measured configuration."""
    raise RuntimeError("no proxy comes from the environment")


def parse_http_list(_text: str) -> NoReturn:
    """Refuse: it is for Digest authentication, which nothing here speaks."""
    raise RuntimeError("no Digest authentication in this image")
