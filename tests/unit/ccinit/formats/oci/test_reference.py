import pytest

from ccinit.errors import FormatError
from ccinit.formats.oci.reference import parse_image_reference

HEX = "0123456789abcdef" * 4
GOOD = f"registry.example:5000/team/app@sha256:{HEX}"


def test_reference_with_port_is_taken_apart() -> None:
    reference = parse_image_reference(GOOD)
    assert reference.host == "registry.example"
    assert reference.port == 5000
    assert reference.repository == "team/app"
    assert reference.digest.hex == HEX
    assert reference.authority == "registry.example:5000"
    assert reference.text == GOOD


def test_reference_with_an_ipv6_address_is_taken_apart() -> None:
    reference = parse_image_reference(f"[fd00::5]:5000/team/app@sha256:{HEX}")
    assert (reference.host, reference.port, reference.repository) == ("fd00::5", 5000, "team/app")
    assert reference.authority == "[fd00::5]:5000"


@pytest.mark.parametrize(
    "name",
    [
        "localhost/a",
        "[::1]/a",
        "[::]:1/a",
        "[2001:db8::]:5000/a",
        "[1:2:3:4:5:6:7:8]:5000/a",
        "127.0.0.1:1/a",
        "r.example/a.b/c_d/e__f/g-h/i---j",
        "r-1.example/" + "a" * 200,
    ],
)
def test_reference_of_every_legal_form_keeps_its_text(name: str) -> None:
    text = f"{name}@sha256:{HEX}"
    assert parse_image_reference(text).text == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("registry.example/app", "reference.digest"),
        ("registry.example/app:latest", "reference.digest"),
        (f"registry.example/app@sha256:{HEX.upper()}", "reference.digest"),
        (f"registry.example/app@sha1:{HEX[:40]}", "reference.digest"),
        ("registry.example/app@sha256:../x", "reference.digest"),
        (f"registry.example/app@sha256:{HEX}@sha256:{HEX}", "reference.digest"),
        (f"registry.example/app@sha256:{HEX[:-1]}", "reference.digest"),
        (f"registry.example/app@sha256:{HEX}\n", "reference.digest"),
        (f"registry.example/app:latest@sha256:{HEX}", "reference.tag"),
        (f"app@sha256:{HEX}", "reference.form"),
        (f"team/app@sha256:{HEX}", "reference.host"),
        (f"Registry.example/app@sha256:{HEX}", "reference.host"),
        (f"-r.example/app@sha256:{HEX}", "reference.host"),
        (f"r..example/app@sha256:{HEX}", "reference.host"),
        (f"192.0.2.256/app@sha256:{HEX}", "reference.host"),
        (f"192.0.02.7:5000/app@sha256:{HEX}", "reference.host"),
        (f"192.0.2.{'7' * 40}/app@sha256:{HEX}", "reference.host"),
        (f"user@r.example/app@sha256:{HEX}", "reference.digest"),
        (f"{'a' * 64}.example/app@sha256:{HEX}", "reference.host"),
        (f"[::1/app@sha256:{HEX}", "reference.host"),
        (f"[::1]x/app@sha256:{HEX}", "reference.host"),
        (f"[]/app@sha256:{HEX}", "reference.host"),
        (f"[:]/app@sha256:{HEX}", "reference.host"),
        (f"[:::]/app@sha256:{HEX}", "reference.host"),
        (f"[1::2::3]/app@sha256:{HEX}", "reference.host"),
        (f"[1:2:3]/app@sha256:{HEX}", "reference.host"),
        (f"[1:2:3:4:5:6:7::8]/app@sha256:{HEX}", "reference.host"),
        (f"[12345::]/app@sha256:{HEX}", "reference.host"),
        (f"[FD00::1]/app@sha256:{HEX}", "reference.host"),
        (f"[fe80::1%eth0]/app@sha256:{HEX}", "reference.host"),
        (f"[::ffff:10.0.2.2]/app@sha256:{HEX}", "reference.host"),
        (f"[r.example]/app@sha256:{HEX}", "reference.host"),
        (f"[::1]:/app@sha256:{HEX}", "reference.port"),
        (f"[::1]:0/app@sha256:{HEX}", "reference.port"),
        (f"r.example:0/app@sha256:{HEX}", "reference.port"),
        (f"r.example:65536/app@sha256:{HEX}", "reference.port"),
        (f"r.example:/app@sha256:{HEX}", "reference.port"),
        (f"r.example:٣/app@sha256:{HEX}", "reference.port"),
        (f"r.example/App@sha256:{HEX}", "reference.repository"),
        (f"r.example//app@sha256:{HEX}", "reference.repository"),
        (f"r.example/../app@sha256:{HEX}", "reference.repository"),
        (f"r.example/-app@sha256:{HEX}", "reference.repository"),
        (f"r.example/app-@sha256:{HEX}", "reference.repository"),
        (f"r.example/a._b@sha256:{HEX}", "reference.repository"),
        (f"r.example/a___b@sha256:{HEX}", "reference.repository"),
        (f"r.example/a b@sha256:{HEX}", "reference.repository"),
        (f"r.example/{'a' * 250}@sha256:{HEX}", "reference.length"),
        ("a" * 600, "reference.length"),
    ],
)
def test_r50_reference_against_the_grammar_is_refused(text: str, reason: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_image_reference(text)
    assert refused.value.reason == reason
    parse_image_reference(GOOD)
