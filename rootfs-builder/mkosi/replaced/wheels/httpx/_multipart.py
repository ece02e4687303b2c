"""httpx without forms of several parts: nothing here sends one.

The package's own looks up types of files, with mimetypes and pathlib.
"""


class MultipartStream:
    """Named by httpx; nobody makes one."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        """Refuse."""
        raise RuntimeError("no multipart forms in this image")


def get_multipart_boundary_from_content_type(content_type: bytes | None) -> None:
    """Find none: a boundary is for a body that is made of files."""
