"""Copies between layouts and registries: what arrives, and what skopeo is given."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ccinit.errors import ConfigError
from rootfs_builder.container_image.oci_layout import open_layout
from tests.unit.rootfs_builder.container_image.command_line import Tools, manifest, refusal, run


def test_push_copies_between_both_places(layout: Path, tmp_path: Path) -> None:
    run("push", f"oci:{layout}", f"oci:{tmp_path / 'copy'}")
    assert open_layout(tmp_path / "copy").digest == open_layout(layout).digest
    assert refusal("push", f"oci:{layout}", f"oci:{tmp_path / 'copy'}") == "image.exists"
    assert refusal("push", f"oci:{layout}", "somewhere") == "image.location"
    assert refusal("push", f"oci:{tmp_path / 'no'}", "docker://r.example/a") == "layout.missing"
    (layout / "index.json").write_text('{"manifests": []}')
    with pytest.raises(ConfigError) as refused:
        run("push", f"oci:{layout}", "docker://r.example/a")
    assert refused.value.reason == "layout.image"


def damage(layout: Path) -> None:
    next((layout / "blobs/sha256").iterdir()).write_bytes(b"cut")


def lose_the_layer(layout: Path) -> None:
    (layer,) = manifest(layout).layers
    (layout / "blobs/sha256" / layer.blob.digest.hex).unlink()


@pytest.mark.parametrize("act", [damage, lose_the_layer])
def test_push_of_a_damaged_layout_is_refused_and_leaves_nothing(
    layout: Path, tmp_path: Path, act: Callable[[Path], None]
) -> None:
    (tmp_path / "to").mkdir()
    assert run("push", f"oci:{layout}", f"oci:{tmp_path / 'to/copy'}") == 0
    act(layout)
    assert refusal("push", f"oci:{layout}", f"oci:{tmp_path / 'to/again'}") == "layout.blob"
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["copy"]


def test_registrys_authority_is_given_to_skopeo_alone_in_a_folder(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its name is: skopeo reads only `*.crt`, and keys that lie beside it, too."""
    (tmp_path / "registry.pem").write_text("a certificate")
    seen: list[dict[str, str]] = []

    def run_skopeo(_tools: Tools, arguments: Sequence[str], **_keywords: object) -> bytes:
        option = next(word for word in arguments if "cert-dir=" in word)
        folder = Path(option.partition("=")[2])
        seen.append({path.name: path.read_text() for path in folder.iterdir()})
        return b"the raw manifest"

    monkeypatch.setattr(Tools, "run", run_skopeo)
    words = ("--ca", tmp_path / "registry.pem")
    run("push", f"oci:{layout}", "docker://r.example/a", *words)
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    sign = ("--key", tmp_path / "key.pem", "--output", tmp_path / "out")
    run("sign", "docker://r.example/a:1", *sign, *words)
    assert seen == [{"ca.crt": "a certificate"}] * 3


def test_output_that_is_no_folder_is_told_before_anything_is_pushed(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def run_skopeo(_tools: Tools, arguments: Sequence[str], **_keywords: object) -> bytes:
        done.append("copy" if "copy" in arguments else arguments[1])
        return b"the raw manifest"

    monkeypatch.setattr(Tools, "run", run_skopeo)
    key, public = ec.generate_private_key(ec.SECP256R1()), tmp_path / "public.pem"
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    output, place = tmp_path / "output", "docker://r.example/a:1"
    sign = ("sign", place, "--key", tmp_path / "key.pem", "--output", output)
    encrypt = ("encrypt", f"oci:{layout}", place, "--recipient", f"jwe:{public}")
    output.write_text("a file")
    for command in (sign, (*encrypt, "--output", output)):
        with pytest.raises(FileExistsError, match="output"):
            run(*command)
        assert "copy" not in done
    output.unlink()
    for command in (sign, (*encrypt, "--output", output)):
        run(*command)
        assert done.pop() == "copy"


def test_auth_file_is_given_to_skopeo_for_the_registrys_side(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "auth.json").write_text('{"auths": {}}')
    seen: list[tuple[str, str]] = []

    def run_skopeo(_tools: Tools, arguments: Sequence[str], **keywords: object) -> bytes:
        option, _, name = next(w for w in arguments if "authfile=" in w).partition("=")
        assert isinstance(folders := keywords["directories"], tuple)
        assert Path(name).parent in folders
        seen.append((option, Path(name).read_text()))
        return b""

    monkeypatch.setattr(Tools, "run", run_skopeo)
    words = ("--auth-file", tmp_path / "auth.json")
    run("push", f"oci:{layout}", "docker://r.example/a", *words)
    assert seen == [("--dest-authfile", '{"auths": {}}')]
    both = ("--credential", "me:secret", *words)
    assert refusal("push", f"oci:{layout}", "docker://r.example/a", *both) == "image.credential"
