"""Commands of docs/operations.md do what the page says, as it has them, on a KBS that serves."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ccinit.formats.encoding.strict_json import decode_base64url, encode_base64url
from ccinit.formats.kbs.rollback_counter import (
    CounterAdvance,
    counter_uri,
    encode_counter_advance,
)
from guest_owner.commands.initdata import make_document
from guest_owner.kbs.references.values import encode_reference_set
from guest_owner.kbs.state.counters import Counters
from guest_owner.kbs.state.store import Store
from tests.fakes.documents.guest import CONFIG, POD
from tests.integration.kbs.harness import (
    DOCUMENT,
    Kbs,
    booted_tpm,
    make_state,
    refused,
    run,
    running_kbs,
)
from tests.unit.guest_owner.kbs import values
from tests.unit.guest_owner.kbs.values import reference_set

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
IMAGE = reference_set("ccinit-prod")
KEY = "ccinit/demo/volume-key-data"
VOLUME_KEY = bytes(range(192, 256))
TOOLS = Path(os.environ.get("CCINIT_TOOLS", "build/tools")).absolute()
CURL = (  # of the tools tree, by its own loader: not every machine has one
    f"{TOOLS}/lib64/ld-linux-x86-64.so.2"
    f" --library-path {TOOLS}/usr/lib/x86_64-linux-gnu {TOOLS}/usr/bin/curl"
)


def shell_block(chapter: str, number: int = 0) -> str:
    """A shell block below a heading of the page."""
    (text,) = re.findall(rf"^## {chapter}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return str(blocks[number])


def shell(folder: Path, script: str) -> str:
    """Run commands where the owner works; return what they print."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name, command in (("guest-owner", f"{sys.executable} -m guest_owner"), ("curl", CURL)):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, "GUEST_OWNER_STATE": "owner"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the owner of the pod `demo` works; the state is `owner`."""
    make_state(tmp_path).rename(tmp_path / "owner")
    state = tmp_path / "owner"
    (tmp_path / "reference.json").write_bytes(encode_reference_set(IMAGE))
    run("register", "reference", "--state", state, tmp_path / "reference.json")
    run("policy", "remove", "--state", state, "1")
    run("policy", "allow", "--state", state, "ccinit/demo/*", "--initdata", "demo")
    Store(state).add_initdata("demo", DOCUMENT)
    (state / "initdata/shop.toml").unlink()
    (tmp_path / "data.key").write_bytes(VOLUME_KEY)
    (tmp_path / "first.psk").write_bytes(VOLUME_KEY[:32])
    for name, file in (("volume-key-data", "data.key"), ("log-psk", "first.psk")):
        uri = f"kbs:///ccinit/demo/{name}"
        run("register", "resource", "--state", state, uri, tmp_path / file)
    run("register", "tls-identity", "--state", state, "kbs:///ccinit/demo/tls-identity")
    run("register", "rollback-counter", "--state", state, "demo", "data")
    return tmp_path


def get(kbs: Kbs, path: str) -> bytes:
    """What a guest of the pod gets that attests now."""
    guest = kbs.client(booted_tpm(IMAGE))
    guest.handshake()
    return bytes(guest.open(guest.get(path)))


def test_pod_that_is_taken_out_of_service_has_no_keys_left(folder: Path) -> None:
    run("admin", "new-key", "--state", folder / "owner", folder / "admin.pem")
    with running_kbs(folder / "owner") as kbs:
        assert get(kbs, KEY) == VOLUME_KEY
        guest = kbs.client(booted_tpm(IMAGE))
        guest.handshake()
        script = shell_block("Taking a pod out of service")
        printed = shell(folder, script.replace("https://192.0.2.7:8443", kbs.url))
        refused(guest.get(KEY), "PolicyDeny")
    told = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    removed = {one["request"].rpartition("/")[2] for one in told if one["event"] == "admin"}
    assert removed == {"volume-key-data", "log-psk", "tls-identity"}
    assert [one["resource"] for one in told if one["decision"] == "released"] == [f"kbs:///{KEY}"]
    left = [path for path in (folder / "owner").rglob("*demo*") if path.is_file()]
    assert not left
    assert not [path for path in (folder / "owner").rglob("*") if "demo/" in str(path)]


def test_backup_serves_in_another_place(folder: Path) -> None:
    with running_kbs(folder / "owner") as kbs:
        assert get(kbs, KEY) == VOLUME_KEY
        shell(folder, shell_block("Backing up and moving the KBS"))
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    unpack, look, serve = shell_block("Backing up and moving the KBS", 1).splitlines()
    assert "kbs serve" in serve
    shell(elsewhere, f"{unpack.replace('kbs-backup', '../kbs-backup')}\n{look}")
    with running_kbs(elsewhere / "owner") as kbs:
        assert get(kbs, KEY) == VOLUME_KEY


def test_guests_of_a_revoked_image_get_nothing_more_and_its_values_are_kept(folder: Path) -> None:
    kept = (folder / "owner/references/ccinit-prod.json").read_bytes()
    with running_kbs(folder / "owner") as kbs:
        guest = kbs.client(booted_tpm(IMAGE))
        guest.handshake()
        assert guest.open(guest.get(KEY)) == VOLUME_KEY
        printed = shell(folder, shell_block("Updating the image", 1))
        assert '"decision":"released"' in printed  # when one of them was last heard of
        refused(guest.get(KEY), "PolicyDeny")
        refused(guest.handshake(), "AttestationError")
        assert str(kbs.audit()[-1]["reason"]).startswith("pcr.4: ")
    (readers,) = (folder / "readers").iterdir()  # of this day
    assert (readers / "references/ccinit-prod.json").read_bytes() == kept
    assert (readers / "initdata/demo.toml").read_bytes() == DOCUMENT


def test_readers_of_old_logs_get_what_an_owner_without_tpms_has(folder: Path) -> None:
    owner = folder / "owner"
    shutil.rmtree(owner / "attestation-keys")
    (owner / "roots").mkdir()
    (owner / "roots/snp.pem").write_text("a certificate")
    keep, guests_end = shell_block("Updating the image", 1).split("guest-owner policy list")
    assert "unregister" in guests_end
    shell(folder, "".join(re.findall(r"^(?:AT=|for ).*\n", keep, re.MULTILINE)))
    (readers,) = (folder / "readers").iterdir()
    assert sorted(one.name for one in readers.iterdir()) == ["initdata", "references", "roots"]
    assert (readers / "initdata/demo.toml").read_bytes() == DOCUMENT


def advance(kbs: Kbs, document: bytes, number: int) -> None:
    """What a guest of the document does when it opens or closes its volume."""
    guest = kbs.client(values.booted_tpm(IMAGE, document))
    guest.handshake(document=document.decode())
    advance = encode_counter_advance(CounterAdvance(to=number, holder=bytes(16)))
    reply = guest.http.post("/kbs/v0/rollback-counter/demo/data", content=advance)
    assert reply.status_code == 200, reply.text


def test_counter_of_an_old_backup_goes_on_from_what_the_newer_audit_log_says(folder: Path) -> None:
    state, uri = folder / "owner", counter_uri("demo", "data")
    document = make_document(CONFIG, POD.replace('name = "shop"', 'name = "demo"'))
    Store(state).add_initdata("demo", document)
    shell(folder, shell_block("Backing up and moving the KBS"))
    with running_kbs(state) as kbs:
        for number in (1, 2, 3):
            advance(kbs, document, number)
    (folder / "saved").mkdir()
    (state / "audit.jsonl").rename(folder / "saved/audit.jsonl")
    shutil.rmtree(state)
    shell(folder, "tar -xf kbs-backup.tar")
    assert Counters(state).read(uri).value == 0
    look, go_on = shell_block("Backing up and moving the KBS", 2).splitlines()
    assert '"minted":"counter 3"' in shell(folder, look)
    shell(folder, go_on.replace("--value 7", "--value 3"))
    with running_kbs(state) as kbs:
        advance(kbs, document, 4)


def test_log_that_is_newer_than_the_backup_says_what_was_taken_back_since(folder: Path) -> None:
    state = folder / "owner"
    shell(folder, shell_block("Backing up and moving the KBS"))
    shell(folder, "guest-owner policy remove 1; guest-owner unregister references/ccinit-prod.json")
    (folder / "saved").mkdir()
    (state / "audit-local.jsonl").rename(folder / "saved/audit-local.jsonl")
    shutil.rmtree(state)
    shell(folder, "tar -xf kbs-backup.tar")
    listed = shell(folder, shell_block("Backing up and moving the KBS", 3)).splitlines()
    told = [(record["request"], record["replaced"]) for record in map(json.loads, listed[-2:])]
    assert told[0] == ("policy remove", "ccinit/demo/*  prod  any  demo  none")
    request, replaced = told[1]
    file, digest = replaced.split(" sha256:")
    assert request == "unregister"
    assert digest == hashlib.sha256((state / file).read_bytes()).hexdigest()  # there again


def test_key_that_leaked_is_told_and_ends_with_its_tokens(folder: Path) -> None:
    run("admin", "new-key", "--state", folder / "owner", folder / "bob.pem", "--name", "bob")
    with running_kbs(folder / "owner") as kbs:
        token = shell(folder, "guest-owner admin token bob.pem").strip()
        bearer = {"authorization": f"Bearer {token}"}
        http = kbs.client().http
        path = "/kbs/v0/resource/ccinit/demo/file-evil"
        assert http.post(path, headers=bearer, content=b"x").status_code == 200
        printed = shell(folder, shell_block("When an administrator's key or token leaks"))
        refused(http.post(path, headers=bearer, content=b"x"), "AdminAuthAccess")
    assert f"POST {path}" in printed
    assert "registered administrator bob-2" in printed


def test_authority_is_replaced_by_one_under_which_the_next_server_stands(folder: Path) -> None:
    lines = shell_block("Replacing an authority").splitlines()
    here = [line for line in lines if not line.startswith("guest-owner register initdata")]
    assert len(here) == len(lines) - 2
    shell(folder, "\n".join(here).replace("192.0.2.7", "127.0.0.1"))
    with running_kbs(folder / "owner") as kbs:  # whose clients pin ca.pem
        assert get(kbs, KEY) == VOLUME_KEY


def test_changed_pod_gets_what_the_one_before_got(folder: Path) -> None:
    ca = (folder / "owner/ca.pem").read_text()
    own = f"""
version = 1
name = "demo"
[[image]]
name = "web"
reference = "registry.example/web@sha256:{64 * "0"}"
ca = '''\n{ca}'''
[[container]]
name = "web"
image = "web"
"""
    (folder / "pod.toml").write_text(own)
    (folder / "ccinit.toml").write_text(
        re.sub("-----BEGIN CERTIFICATE-----\n.*-----END CERTIFICATE-----\n", ca, CONFIG,
               flags=re.DOTALL)
    )  # fmt: skip
    (folder / "log.psk").write_bytes(bytes(32))
    kept = ("--state", folder / "owner", "kbs:///ccinit/demo/log-psk", folder / "log.psk")
    run("register", "resource", *kept, "--kind", "log-psk", "--envelope")
    assert "the guest would accept it" in shell(folder, shell_block("Changing the pod"))
    document = (folder / "initdata-2.toml").read_bytes()
    shell(folder, "guest-owner policy remove 1; guest-owner unregister initdata/demo.toml")
    with running_kbs(folder / "owner") as kbs:
        guest = kbs.client(values.booted_tpm(IMAGE, document))
        guest.handshake(document=document.decode())
        assert guest.open(guest.get(KEY)) == VOLUME_KEY
        former = kbs.client(booted_tpm(IMAGE))
        refused(former.handshake(), "AttestationError")


def test_key_of_another_tpm_takes_the_place_of_the_one_of_that_name(folder: Path) -> None:
    keys = folder / "owner/attestation-keys"
    (folder / "tpm").mkdir()
    for number, name in ((0, "old-ak.der"), (1, "tpm/ak.der")):
        (folder / name).write_bytes(booted_tpm(IMAGE, number).public_der)
    run("register", "ak", "--state", folder / "owner", folder / "old-ak.der")
    unnamed = {path.name for path in keys.iterdir()}
    run("register", "ak", "--state", folder / "owner", folder / "old-ak.der", "--name", "node-1")
    printed = shell(folder, shell_block("Replacing a vTPM"))
    assert f"ak-{printed.split()[-1]}.der" in unnamed
    assert (keys / "node-1.der").read_bytes() == (folder / "tpm/ak.der").read_bytes()


def forged_token(token: str, signing_key: bytes, public: dict[str, str]) -> str:
    """A token that says of somebody else's key what one says of a guest's."""
    header, payload, _ = token.split(".")
    claims = json.loads(decode_base64url(payload, "payload")) | {"tee-pubkey": public}
    signed = f"{header}.{encode_base64url(json.dumps(claims).encode())}"
    key = load_pem_private_key(signing_key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(SHA256())))
    return f"{signed}.{encode_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def test_tokens_of_a_stolen_key_end_with_it(folder: Path) -> None:
    stolen = (folder / "owner/token-key.pem").read_bytes()
    with running_kbs(folder / "owner") as kbs:
        guest, thief = kbs.client(booted_tpm(IMAGE)), kbs.client()
        forged = forged_token(guest.handshake().json()["token"], stolen, thief.jwk)
        assert thief.open(thief.get(KEY, forged)) == VOLUME_KEY
    shell(folder, shell_block("Rotating keys"))
    with running_kbs(folder / "owner") as kbs:
        refused(kbs.client().get(KEY, forged), "TokenVerifierError")
        assert "token.signature" in str(kbs.audit()[-1]["reason"])
        assert get(kbs, KEY) == VOLUME_KEY
    assert (folder / "owner/token-key.pem").stat().st_mode & 0o077 == 0


def test_audit_log_that_was_moved_away_is_read_where_it_lies(folder: Path) -> None:
    state = folder / "owner"
    with running_kbs(state) as kbs:
        get(kbs, KEY)
        (state / "audit.jsonl").rename(state / "audit-000001.jsonl")
        get(kbs, KEY)
        printed = shell(folder, shell_block("Full disks"))
        assert printed.count("released") == 1
        assert shell(folder, "guest-owner audit show").count("released") == 1
