"""Well-formed keys on a curve that `cryptography` does not have (wap-wsg-idm-ecid-wtls7)."""

PUBLIC_PEM = b"""\
-----BEGIN PUBLIC KEY-----
MD4wEAYHKoZIzj0CAQYFZysBBAcDKgAE0R916X9cnm2UQ8I5/Q7vwZeFw4IhsvD5
jxn36frSnA+ry0qKNVfPDw==
-----END PUBLIC KEY-----
"""

PRIVATE_PEM = b"""\
-----BEGIN PRIVATE KEY-----
MGECAQAwEAYHKoZIzj0CAQYFZysBBAcESjBIAgEBBBUAVYoMGsJlRzPjRycGRT7l
48nYhfGhLAMqAATRH3Xpf1yebZRDwjn9Du/Bl4XDgiGy8PmPGffp+tKcD6vLSoo1
V88P
-----END PRIVATE KEY-----
"""
