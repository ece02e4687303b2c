"""The letters that names are written with, as `string` has them.

PID 1 checks names without patterns; importing `string` would load all of `re` to compile one.
"""

from ccinit.annotations import Final

LOWERCASE: Final = "abcdefghijklmnopqrstuvwxyz"
UPPERCASE: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LETTERS: Final = LOWERCASE + UPPERCASE
DIGITS: Final = "0123456789"
