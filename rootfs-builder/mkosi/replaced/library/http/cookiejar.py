"""Stands in for http.cookiejar: httpx imports it, and a guest keeps no cookie.

The library's own reads every Set-Cookie of a peer by regular expressions, and brings urllib.request
and http.client with it. The cookie of a KBS's session is read by `ccinit.attest`, from the header.
"""

from collections.abc import Iterator


class Cookie:
    """Named by httpx; nobody makes one."""


class CookieJar:
    """What a client has of cookies: none, whatever it is sent."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Take none."""

    def clear(self) -> None:
        """Forget none."""

    def __iter__(self) -> Iterator[Cookie]:
        return iter(())
