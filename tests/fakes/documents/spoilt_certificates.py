"""Certificates that the library balks at, each in another way: by an error or by a warning."""

import base64

import pytest


def pem(der: bytes) -> bytes:
    """The text form, all of it in one line."""
    body = base64.b64encode(der)
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----\n"


def spoilt_certificates(der: bytes, common_name: str) -> list[object]:
    """Return parameters: the certificate of that subject or issuer with one byte changed, DER."""
    version = der.index(bytes.fromhex("a003020102"))
    name = der.index(b"\x0c" + bytes((len(common_name),)) + common_name.encode())
    places = {
        "no such version": (version + 4, 0x3F),
        "negative serial number": (version + 7, 0xFF),
        "a name that is bits": (name, 0x03),
        "a name that is no text": (name + 2, 0xBE),
        "a country of more than two letters": (name - 1, 0x06),
    }
    return [
        pytest.param(der[:place] + bytes((byte,)) + der[place + 1 :], id=what)
        for what, (place, byte) in places.items()
    ]
