"""The key exchange of a ServerHello, against OpenSSL's own, and cut off at every byte."""

import ssl

import pytest

from ccinit.errors import FormatError
from ccinit.formats.planes.tls_hello import X25519MLKEM768, group_name, selected_group
from tests.fakes.network.tls_server import make_authority, server_context


def first_flight(curve: str | None = None) -> bytes:
    """Let a server answer a client; return what it said."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server = server_context(make_authority().issue())
    if curve is not None:
        server.set_ecdh_curve(curve)
    ours, theirs = (ssl.MemoryBIO(), ssl.MemoryBIO()), (ssl.MemoryBIO(), ssl.MemoryBIO())
    near, far = client.wrap_bio(*ours), server.wrap_bio(*theirs, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        near.do_handshake()
    theirs[0].write(ours[1].read())
    with pytest.raises(ssl.SSLWantReadError):
        far.do_handshake()
    return theirs[1].read()


def test_group_is_what_the_server_was_told_to_take() -> None:
    assert selected_group(first_flight("secp384r1")) == 0x0018  # by a HelloRetryRequest
    assert selected_group(first_flight("prime256v1")) == 0x0017


def test_every_cut_of_the_hello_is_an_error() -> None:
    flight = first_flight()
    for length in range(5 + int.from_bytes(flight[3:5])):
        with pytest.raises(FormatError) as caught:
            selected_group(flight[:length])
        assert caught.value.reason == "tls.hello"


@pytest.mark.parametrize("spot", [0, 5])
def test_another_record_is_an_error(spot: int) -> None:
    flight = bytearray(first_flight())
    flight[spot] ^= 1
    with pytest.raises(FormatError) as caught:
        selected_group(bytes(flight))
    assert caught.value.reason == "tls.hello"


def test_groups_have_names_or_numbers() -> None:
    assert group_name(X25519MLKEM768) == "X25519MLKEM768"
    assert group_name(0x1234) == "group 0x1234"
