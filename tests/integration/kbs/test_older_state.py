"""A state directory that an older version made and used is served by this one, and nothing is lost.

What that version wrote is in `tests/vectors/older_version`.
"""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificates

from ccinit.formats.encoding.digest import sha256_digest
from ccinit.formats.kbs.envelope import EnvelopeKind, parse_envelope
from guest_owner.kbs.audit.log import read_audit
from guest_owner.kbs.state.store import Store
from tests.integration.kbs.harness import booted_tpm, run, running_kbs
from tests.integration.kbs.test_connections import command
from tests.integration.kbs.test_rollback_counter import step
from tests.integration.kbs.two_pods import guest_with

OLDER = Path("tests/vectors/older_version")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state, with a certificate that has not ended; an update finds modes as they were."""
    state = Path(shutil.copytree(OLDER / "state", tmp_path / "state"))
    for path in (state, *state.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    run("kbs", "new-certificate", "--state", state, "--name", "127.0.0.1", "--name", "localhost")
    return state


def test_it_is_taken_without_a_word(state: Path) -> None:
    with command(state) as (process, _port):
        process.terminate()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_audit_log_goes_on(state: Path, tmp_path: Path) -> None:
    before = list(read_audit(state / "audit.jsonl"))
    assert {record["decision"] for record in before} == {
        "accepted",
        "released",
        "denied",
        "refused",
    }
    (tmp_path / "log.psk").write_bytes(bytes(range(32)))
    uri = "kbs:///ccinit/shop/log-psk"
    run("register", "resource", "--state", state, "--kind", "log-psk", uri, tmp_path / "log.psk")
    (added,) = (one for one in read_audit(state / "audit.jsonl") if one not in before)
    assert (added["event"], added["request"]) == ("admin", "register resource")


def test_guest_gets_what_it_got(state: Path, tmp_path: Path) -> None:
    """By a document that would be refused by now: it has a volume of 16 MiB."""
    document = (state / "initdata/shop.toml").read_bytes()
    (tmp_path / "ak.der").write_bytes(booted_tpm().public_der)
    run("register", "ak", "--state", state, tmp_path / "ak.der")
    got_before: dict[str, str] = json.loads((OLDER / "released.json").read_text())
    with running_kbs(state) as kbs:
        guest = guest_with(kbs, document)
        uris = (*got_before, "tls-identity")
        *got, identity = guest.fetch(*(f"kbs:///ccinit/shop/{name}" for name in uris))
        assert [hashlib.sha256(body).hexdigest() for body in got] == list(got_before.values())
        envelope = parse_envelope(identity)
        assert envelope.kind is EnvelopeKind.TLS_IDENTITY
        (authority,) = load_pem_x509_certificates((state / "owner-ca.pem").read_bytes())
        load_pem_x509_certificates(envelope.data)[0].verify_directly_issued_by(authority)
        assert step(guest) == 1
        assert step(guest, to=2) == 2
        assert step(guest) == 2


def test_administrator_may_still_call(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    run("admin", "token", OLDER / "admin.pem")
    header = {"authorization": f"Bearer {capsys.readouterr().out.strip()}"}
    path = "/kbs/v0/resource/ccinit/shop/by-call"
    with running_kbs(state) as kbs:
        http = kbs.client().http
        assert http.post(path, content=b"new", headers=header).status_code == 200
        listed = http.get("/kbs/v0/reference-value", headers=header)
        assert listed.status_code == 200
        assert "image-1" in listed.text
    assert (state / "resources/ccinit/shop/by-call").read_bytes() == b"new"


def test_registrations_are_those_that_were_made(state: Path) -> None:
    store = Store(state)
    references = store.read_references()
    assert {known.name for known in references.sets} == {"image-1", "image-1-test"}
    assert [(root.name, len(root.certificates)) for root in references.roots] == [("amd", 2)]
    assert len(references.requirements) == len(references.attestation_keys) == 1
    document = (state / "initdata/shop.toml").read_bytes()
    assert store.read_pod_name("shop", sha256_digest(document)) == "shop"
    assert len(store.read_policy().rules) == 2
