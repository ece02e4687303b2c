"""What a layer becomes once it is verified."""

from enum import StrEnum


class LayerForm(StrEnum):
    """`index` is erofs metadata over its tar, which stays.

    `compressed` is erofs with the content; the tar goes, and its outline stays.
    """

    INDEX = "index"
    COMPRESSED = "compressed"
