"""Run a command of `guest-owner` as a person would."""

from pathlib import Path

import pytest

from guest_owner.cli import main

# On a curve that OpenSSL knows and the library does not (`openssl genpkey -algorithm SM2`).
SM2_PUBLIC_KEY = b"""\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoEcz1UBgi0DQgAEnhpHQdDCnP8SSOUsS6hjclSCp0mX
ZhLRC9kFX1yE/2GinVKbWLbI1MIJqh4MkfyWvnR/+0KX+8F+6ZazUyrrGA==
-----END PUBLIC KEY-----
"""


def run(*arguments: object) -> int:
    """Return the exit status."""
    return main([str(argument) for argument in arguments])


def status_of_wrong_usage(*arguments: object) -> int:
    """Return the exit status, whether argparse ends the command or the command itself."""
    try:
        return run(*arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else -1


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was written to standard error since the last call."""
    return capsys.readouterr().err


def write(path: Path, data: bytes) -> Path:
    """Make a file that a command is given."""
    path.write_bytes(data)
    return path
