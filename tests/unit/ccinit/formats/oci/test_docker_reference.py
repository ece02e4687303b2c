import pytest

from ccinit.errors import FormatError
from ccinit.formats.oci.docker_reference import parse_docker_reference, parse_name_prefix

HEX = "0123456789abcdef" * 4
REASON = "x.name"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("busybox", "docker.io/library/busybox"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("team/app", "docker.io/team/app"),
        ("docker.io/busybox", "docker.io/library/busybox"),
        ("index.docker.io/busybox", "docker.io/library/busybox"),
        (HEX[:-1], f"docker.io/library/{HEX[:-1]}"),
        (f"{HEX}:1", f"docker.io/library/{HEX}:1"),
        ("localhost/app", "localhost/app"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("[fd00::5]:5000/app:v1", "[fd00::5]:5000/app:v1"),
        ("[::1]/app", "[::1]/app"),
        ("r.example/a/b/c:T_a.g-1", "r.example/a/b/c:T_a.g-1"),
        (f"r.example/a@sha256:{HEX}", f"r.example/a@sha256:{HEX}"),
        (f"r.example/a:1@sha256:{HEX}", f"r.example/a:1@sha256:{HEX}"),
    ],
)
def test_reference_has_one_normal_form(text: str, normal: str) -> None:
    parsed = parse_docker_reference(text, REASON)
    assert parsed.text == normal
    assert parse_docker_reference(normal, REASON) == parsed
    assert parsed.is_name_only == (parsed.text == parsed.name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "A/b",
        "r.example/App",
        "r.example/a:",
        "r.example/a:.x",
        "r.example/a:" + "t" * 129,
        "r.example/a@",
        "r.example/a@sha256:" + "0" * 63,
        "r.example/a@sha512:" + "0" * 128,
        "r.example:port/a",
        "r.example:\u0663/a",
        "r_x.example/a",
        "-r.example/a",
        "r-.example/a",
        "r.example/a:t!",
        "r..example/a",
        "r.example/" + "a" * 250,
        "r.example/" + "a/" * 300,
        "r.example/a b",
        "r.example/a\n",
        "https://r.example/a",
        HEX,
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_docker_reference(text, REASON)
    assert refused.value.reason == REASON


@pytest.mark.parametrize(
    "text",
    ["r.example/a:" + "t" * 128, "r.example/" + "a" * 245, "docker.io/library/" + "z" * 64],
    ids=["tag", "name", "no-identifier"],
)
def test_longest_names_and_tags_are_taken(text: str) -> None:
    assert parse_docker_reference(text, REASON).text == text


@pytest.mark.parametrize(
    "text", ["r.example", "r.example:5000", "r.example/a/b", "host", "[::1]:5000", "[::1]/a"]
)
def test_prefix_of_names_is_kept(text: str) -> None:
    assert parse_name_prefix(text, REASON) == text


@pytest.mark.parametrize(
    "text", ["", "r.example/", "r.example/a:1", "r.example/A", "r.example:x", "[::1", "[::1]:x"]
)
def test_what_is_no_prefix_of_names_is_refused(text: str) -> None:
    with pytest.raises(FormatError) as refused:
        parse_name_prefix(text, REASON)
    assert refused.value.reason == REASON
