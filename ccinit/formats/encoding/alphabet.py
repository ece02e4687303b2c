"""The letters that names are written with, as `string` has them.

PID 1 reads names and no patterns; `string` compiles one, with all of `re`, when it is imported.
"""

from ccinit.annotations import Final

LOWERCASE: Final = "abcdefghijklmnopqrstuvwxyz"
UPPERCASE: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LETTERS: Final = LOWERCASE + UPPERCASE
DIGITS: Final = "0123456789"
