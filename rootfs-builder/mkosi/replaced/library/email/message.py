"""Stands in for email.message: httpx names it for two things that no guest does.

It would decode a body to text by its charset, and show headers to a cookie jar that reads them.
Bodies are bytes here. The library's own brings headers' grammar, charsets and transfer encodings.
"""


class Message:
    """Named by httpx; nobody makes one."""

    def __init__(self) -> None:
        """Refuse."""
        raise RuntimeError("no text of a body by its charset in this image")
