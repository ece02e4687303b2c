"""Administration over TLS, as Trustee's client tools call it; and everyone who may not."""

import base64
import fcntl
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from guest_owner.cli import main
from guest_owner.kbs.exclusion import LOCK_FILE
from guest_owner.kbs.references.values import Profile, encode_reference_set
from guest_owner.kbs.state.store import Store, attestation_key_name
from tests.integration.kbs.harness import (
    IMAGE,
    SECRET,
    URI,
    Kbs,
    booted_tpm,
    make_state,
    refused,
    running_kbs,
    variant,
)
from tests.unit.guest_owner.kbs.values import reference_set

PATH = "/kbs/v0/resource/ccinit/shop/new"
REFERENCES = "/kbs/v0/reference-value"


@pytest.fixture
def kbs(tmp_path: Path) -> Iterator[Kbs]:
    with running_kbs(make_state(tmp_path)) as server:
        yield server


@pytest.fixture
def token(kbs: Kbs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    key = str(tmp_path / "admin.pem")
    assert main(["admin", "new-key", "--state", str(kbs.state), key, "--name", "alice"]) == 0
    capsys.readouterr()
    assert main(["admin", "token", key]) == 0
    return capsys.readouterr().out.strip()


def call(
    kbs: Kbs, method: str, path: str, token: str | None = None, body: bytes = b""
) -> httpx.Response:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return kbs.client().http.request(method, path, headers=headers, content=body)


def rvps(payload: object) -> bytes:
    encoded = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps({"version": "0.1.0", "type": "sample", "payload": encoded}).encode()


def test_stored_resource_is_released_and_a_deleted_one_is_gone(kbs: Kbs, token: str) -> None:
    guest = kbs.client()
    guest.handshake()
    refused(guest.get("ccinit/shop/new"), "PluginInternalError")
    reply = call(kbs, "POST", PATH, token, SECRET + b" again")
    assert (reply.status_code, reply.content) == (200, b"")
    assert guest.open(guest.get("ccinit/shop/new")) == SECRET + b" again"
    assert call(kbs, "DELETE", PATH, token).status_code == 200
    refused(guest.get("ccinit/shop/new"), "PluginInternalError")
    assert "resource.absent" in refused(call(kbs, "DELETE", PATH, token), "PluginInternalError")
    calls = [record for record in kbs.audit() if record["event"] == "admin"]
    assert [(record["request"], record["decision"]) for record in calls] == [
        (f"POST {PATH}", "accepted"),
        (f"DELETE {PATH}", "accepted"),
        (f"DELETE {PATH}", "accepted"),
        (f"DELETE {PATH}", "refused"),
    ]
    assert {record["administrator"] for record in calls} == {"alice"}
    log = (kbs.state / "audit.jsonl").read_bytes()
    assert SECRET not in log
    assert token.encode() not in log


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/kbs/v0/resource/ccinit/shop", b"x", "resource.path"),
        ("/kbs/v0/resource/ccinit/shop/..%2Fx", b"x", "resource.path"),
        (PATH, b"", "resource.size"),
        (PATH, bytes(1 + (1 << 20)), "resource.size"),
    ],
)
def test_odd_resources_are_refused_in_words(
    kbs: Kbs, token: str, path: str, body: bytes, error: str
) -> None:
    assert error in refused(call(kbs, "POST", path, token, body), "PluginInternalError")
    assert not (kbs.state / "resources/ccinit/shop/new").exists()


def test_volume_key_is_replaced_by_no_other_before_it_is_removed(kbs: Kbs, token: str) -> None:
    path = "/kbs/v0/resource/ccinit/shop/volume-key-data"
    stored = kbs.state / "resources/ccinit/shop/volume-key-data"
    own, other = os.urandom(64), os.urandom(64)
    for _ in range(2):  # the same one may come again
        assert call(kbs, "POST", path, token, own).status_code == 200
    reply = call(kbs, "POST", path, token, other)
    assert (reply.status_code, variant(reply)) == (409, "PluginInternalError")
    assert "DELETE" in reply.json()["detail"]
    assert stored.read_bytes() == own
    record = kbs.audit()[-1]
    assert (record["decision"], record["administrator"]) == ("refused", "alice")
    assert record["reason"] == reply.json()["detail"]
    assert str(record["reason"]).startswith("resource.volume_key: ")
    assert call(kbs, "DELETE", path, token).status_code == 200
    assert call(kbs, "POST", path, token, other).status_code == 200
    assert stored.read_bytes() == other


@pytest.mark.parametrize("path", [PATH, REFERENCES])
def test_body_over_the_cap_is_cut_off(kbs: Kbs, token: str, path: str) -> None:
    reply = call(kbs, "POST", path, token, bytes(2 * 1024 * 1024 + 1))
    assert reply.status_code == 413
    last = kbs.audit()[-1]
    assert (last["decision"], last["administrator"]) == ("refused", "alice")
    assert (last["request"], last["reason"]) == (f"POST {path}", reply.json()["detail"])


@pytest.mark.parametrize("is_removed", [False, True])
def test_key_that_is_removed_while_a_body_arrives_changes_nothing(
    kbs: Kbs,
    token: str,
    tmp_path: Path,
    is_removed: bool,  # noqa: FBT001
) -> None:
    def body() -> Iterator[bytes]:
        yield SECRET
        for _ in range(20):  # what has been sent arrives in between
            assert kbs.client().auth().status_code == 200
        if is_removed:
            (kbs.state / "admin-keys/alice.pem").rename(tmp_path / "alice.pem")
        yield b" again"

    headers = {"authorization": f"Bearer {token}"}
    reply = kbs.client().http.post(PATH, headers=headers, content=body())
    assert (kbs.state / "resources/ccinit/shop/new").exists() is not is_removed
    if not is_removed:
        assert reply.status_code == 200
        return
    assert refused(reply, "AdminAuthAccess") == "admin access denied"
    last = kbs.audit()[-1]
    assert (last["decision"], last["request"]) == ("refused", f"POST {PATH}")
    assert str(last["reason"]).startswith("admin.closed")


@pytest.mark.parametrize(
    "how", ["none", "rubbish", "another key", "attestation token", "removed key"]
)
def test_nobody_else_may_administer(kbs: Kbs, token: str, tmp_path: Path, how: str) -> None:
    guest = kbs.client()
    attested = guest.handshake().json()["token"]
    (kbs.state / "admin-keys/alice.pem").rename(tmp_path / "alice.pem")
    if how != "removed key":
        assert main(["admin", "new-key", "--state", str(kbs.state), str(tmp_path / "b")]) == 0
    shown = {"none": None, "rubbish": "a.b.c", "attestation token": attested}.get(how, token)
    before = sorted(path for path in kbs.state.rglob("*") if not path.match("audit*.jsonl"))
    for method, path in (
        ("POST", PATH),
        ("DELETE", f"/kbs/v0/resource/{URI}"),
        ("POST", "/kbs/v0/reference-value"),
        ("GET", "/kbs/v0/reference-value"),
        ("POST", "/kbs/v0/resource-policy"),
        ("GET", "/kbs/v0/resource-policy"),
        ("POST", "/kbs/v0/attestation-policy"),
    ):
        reply = call(kbs, method, path, shown, rvps({}))
        assert refused(reply, "AdminAuthAccess") == "admin access denied"
        record = kbs.audit()[-1]
        assert (record["decision"], record["request"]) == ("refused", f"{method} {path}")
        assert str(record["reason"]).startswith("admin.")
    assert sorted(p for p in kbs.state.rglob("*") if not p.match("audit*.jsonl")) == before
    assert guest.open(guest.get()) == SECRET

    # The same calls pass once the key is registered again.
    (tmp_path / "alice.pem").rename(kbs.state / "admin-keys/alice.pem")
    assert call(kbs, "GET", "/kbs/v0/reference-value", token).status_code == 200


def test_reference_values_registered_over_the_network_count_at_once(kbs: Kbs, token: str) -> None:
    (kbs.state / "references/image-1.json").unlink()
    for path in (kbs.state / "attestation-keys").iterdir():
        path.unlink()
    guest = kbs.client()
    assert "ak.unregistered" in refused(guest.handshake())
    public = base64.b64encode(booted_tpm().public_der).decode()
    text = encode_reference_set(IMAGE).decode()
    body = rvps({"ccinit_reference": text, "ccinit_attestation_key": [public]})
    assert call(kbs, "POST", "/kbs/v0/reference-value", token, body).status_code == 200
    name = attestation_key_name(booted_tpm().public_der)
    assert kbs.audit()[-1]["registered"] == f"reference image-1, ak {name}"
    assert guest.handshake().status_code == 200
    assert guest.open(guest.get()) == SECRET
    listed = call(kbs, "GET", "/kbs/v0/reference-value/ccinit_reference", token).json()
    assert json.loads(text) in listed["ccinit_reference"]
    unknown = call(kbs, "GET", "/kbs/v0/reference-value/tpm_pcr11", token)
    assert "ccinit_reference" in refused(unknown, "RvpsError")


def test_administrator_can_have_a_machine_of_his_own_served_like_a_guest(
    kbs: Kbs, token: str
) -> None:
    """SECURITY.md, "The owner's KBS": no call reads a resource, and this is why the key is one."""
    own = booted_tpm(key=1)  # a program: it says what was measured in the guest that it poses as
    guest = kbs.client(own)
    assert "ak.unregistered" in refused(guest.handshake())
    body = rvps({"ccinit_attestation_key": base64.b64encode(own.public_der).decode()})
    assert call(kbs, "POST", REFERENCES, token, body).status_code == 200
    assert guest.handshake().status_code == 200
    assert guest.open(guest.get()) == SECRET
    registered = f"ak {attestation_key_name(own.public_der)}"
    (told,) = (record for record in kbs.audit() if record.get("registered") == registered)
    assert told["administrator"] == "alice"


def test_message_with_one_bad_part_registers_nothing(kbs: Kbs, token: str) -> None:
    (kbs.state / "references/image-1.json").unlink()
    text = encode_reference_set(IMAGE).decode()
    body = rvps({"ccinit_reference": text, "ccinit_attestation_key": "AAAA"})
    assert "ak.form" in refused(
        call(kbs, "POST", "/kbs/v0/reference-value", token, body), "RvpsError"
    )
    assert [known.name for known in Store(kbs.state).read_references().sets] == ["image-1-test"]


@pytest.mark.parametrize("name", ["resource-policy", "attestation-policy"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_rego_is_refused_in_words_and_changes_nothing(
    kbs: Kbs, token: str, name: str, method: str
) -> None:
    policy = (kbs.state / "policy.toml").read_bytes()
    rego = base64.urlsafe_b64encode(b"package policy\ndefault allow = true").decode().rstrip("=")
    body = json.dumps({"type": "rego", "policy_id": "default_cpu", "policy": rego}).encode()
    reply = call(kbs, method, f"/kbs/v0/{name}", token, body)
    assert (reply.status_code, variant(reply)) == (501, "PolicyEngineError")
    assert "guest-owner policy" in reply.json()["detail"]
    assert (kbs.state / "policy.toml").read_bytes() == policy
    record = kbs.audit()[-1]
    assert (record["decision"], record["administrator"]) == ("refused", "alice")
    guest = kbs.client()
    guest.handshake()
    refused(guest.get("ccinit/bank/pin"), "PolicyDeny")


def test_call_that_there_is_not_is_refused(kbs: Kbs, token: str) -> None:
    reply = call(kbs, "PUT", PATH, token, b"x")
    assert (reply.status_code, variant(reply)) == (404, "InvalidRequestPath")


def test_message_of_which_a_part_cannot_be_registers_nothing(kbs: Kbs, token: str) -> None:
    new = reference_set("image-9")
    twin = replace(IMAGE, name="twin", profile=Profile.TEST)
    texts = [encode_reference_set(reference).decode() for reference in (new, twin)]
    reply = call(kbs, "POST", REFERENCES, token, rvps({"ccinit_reference": texts}))
    assert "reference.profile" in refused(reply, "RvpsError")
    known = [reference.name for reference in Store(kbs.state).read_references().sets]
    assert "image-9" not in known
    assert call(kbs, "POST", REFERENCES, token, rvps({"ccinit_reference": texts[:1]})).is_success


def test_list_that_the_state_does_not_give_is_in_the_log(kbs: Kbs, token: str) -> None:
    broken = kbs.state / "references/broken.json"
    broken.write_bytes(b"{")
    reply = call(kbs, "GET", REFERENCES, token)
    assert (reply.status_code, variant(reply)) == (500, "PluginInternalError")
    assert str(broken) not in reply.text
    assert kbs.audit()[-1]["reason"] == f"reference.json: {broken}: malformed JSON"
    broken.unlink()
    assert call(kbs, "GET", REFERENCES, token).is_success


def test_guests_are_served_while_a_backup_holds_the_state(
    kbs: Kbs, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes it waits meanwhile; whoever only asks does not wait with it."""
    monkeypatch.setattr("guest_owner.kbs.exclusion.WAIT_SECONDS", 60.0)
    monkeypatch.setattr("guest_owner.kbs.http.app.WAIT_SECONDS", 60.0)
    with ThreadPoolExecutor(1) as pool:
        with held(kbs.state):
            stored = pool.submit(call, kbs, "POST", PATH, token, SECRET + b" again")
            guest = kbs.client()
            for _ in range(20):  # the call comes in between
                assert guest.auth().status_code == 200
            assert guest.attest().status_code == 200
            assert guest.open(guest.get()) == SECRET
            refused(guest.get("ccinit/shop/new"), "PluginInternalError")
            assert not stored.done()
        assert stored.result(60).status_code == 200
    assert guest.open(guest.get("ccinit/shop/new")) == SECRET + b" again"


def test_call_that_waited_too_long_for_a_backup_is_refused_and_in_the_log(
    kbs: Kbs, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guest_owner.kbs.http.app.WAIT_SECONDS", 0.2)
    with held(kbs.state):
        reply = call(kbs, "DELETE", f"/kbs/v0/resource/{URI}", token)
    assert (reply.status_code, variant(reply)) == (500, "PluginInternalError")
    assert reply.json()["detail"].startswith("state.busy: another command has held ")
    last = kbs.audit()[-1]
    assert (last["decision"], last["administrator"]) == ("refused", "alice")
    assert last["reason"] == reply.json()["detail"]
    assert call(kbs, "DELETE", f"/kbs/v0/resource/{URI}", token).status_code == 200


@contextmanager
def held(state: Path) -> Iterator[None]:
    """The lock that the state's backup is made under, as `flock` takes it."""
    with (state / LOCK_FILE).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
