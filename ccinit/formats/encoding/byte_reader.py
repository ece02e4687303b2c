"""A cursor over binary fields, which never reads past the end.

Intel's structures and the TCG's logs have little-endian numbers; those of a TPM are big-endian
(`ccinit.formats.tcg.tpm2_frames`). The caller names the place, from which the reasons of errors
derive: `<where>.truncated` and `<where>.trailing`.
"""

from ccinit.errors import FormatError


class ByteReader:
    """Takes fields from the front of untrusted bytes; numbers begin with their highest byte."""

    def __init__(self, data: bytes, where: str) -> None:
        """Args: data: untrusted; where: prefix of the reasons."""
        self._data = data
        self._where = where
        self._offset = 0

    @property
    def offset(self) -> int:
        """How many bytes were taken."""
        return self._offset

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._offset

    def take(self, length: int) -> bytes:
        """Return the next `length` bytes.

        Raises:
            FormatError: `<where>.truncated`.
        """
        end = self._offset + length
        if end > len(self._data):
            missing = end - len(self._data)
            raise FormatError(f"{self._where}.truncated", f"{missing} bytes are missing")
        taken = self._data[self._offset : end]
        self._offset = end
        return taken

    def peek(self, length: int) -> bytes:
        """Return up to `length` bytes without taking them."""
        return self._data[self._offset : self._offset + length]

    def u16(self) -> int:
        """Take two bytes."""
        return self._number(2)

    def u32(self) -> int:
        """Take four bytes."""
        return self._number(4)

    def u64(self) -> int:
        """Take eight bytes."""
        return self._number(8)

    def rest(self) -> bytes:
        """Take everything that is left."""
        return self.take(self.remaining)

    def end(self) -> None:
        """Require that nothing is left.

        Raises:
            FormatError: `<where>.trailing`.
        """
        if self.remaining:
            raise FormatError(f"{self._where}.trailing", f"{self.remaining} bytes too many")

    def _number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")


class LittleEndianReader(ByteReader):
    """One whose numbers begin with their lowest byte."""

    def _number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "little")
