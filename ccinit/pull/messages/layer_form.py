"""What a layer becomes once it is verified."""

from enum import StrEnum


class LayerForm(StrEnum):
    """`index` is erofs metadata over its tar, which is kept.

    `compressed` is erofs with the content; the tar is removed, and its outline kept.
    """

    INDEX = "index"
    COMPRESSED = "compressed"
