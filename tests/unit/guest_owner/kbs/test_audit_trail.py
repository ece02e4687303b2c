"""What an auditor reads of a release: what went where and when, by whose word, and what changed."""

import hashlib
import os
import pwd

import pytest

from guest_owner.kbs.state import local_changes
from guest_owner.kbs.state.store import Store
from tests.unit.guest_owner.command_line import error_of, run, write
from tests.unit.guest_owner.kbs.broker_values import PATH, Kbs, refused

OTHER = "ccinit/shop/file-other"


def test_auditor_learns_who_got_what_by_which_rule_and_registration_and_who_changed_what(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_changes, "_LOGIN_USER", store.root / "nobody-logged-in")
    user = pwd.getpwuid(os.getuid()).pw_name
    kbs, state = Kbs(store), ("--state", store.root)
    key = write(store.root.parent / "other.der", kbs.tpm.public_der)
    assert run("register", "ak", key, "--name", "node", *state) == 0
    assert run("policy", "allow", OTHER, "--initdata", "bank", *state) == 0
    guest = kbs.guest()
    guest.attest()
    guest.get(PATH)
    assert run("policy", "remove", "1", *state) == 0
    refused(guest.get, PATH)

    error_of(capsys)
    assert run("audit", "show", *state) == 0
    _header, *lines = (line.split()[1:] for line in capsys.readouterr().out.splitlines())
    label, resource = guest.session.label, f"kbs:///{PATH}"
    digest = hashlib.sha256(kbs.tpm.public_der).hexdigest()
    assert lines == [
        f"admin {user} accepted register ak: attestation-keys/node.der sha256:{digest}".split(),
        f"admin {user} accepted policy allow: {OTHER} prod any bank none".split(),
        f"attest {label} accepted tpm: image image-1 (prod), initdata shop".split(),
        f"resource {label} released {resource} rule 1: ccinit/*/*".split(),
        f"admin {user} accepted policy remove: ccinit/*/* prod any shop none".split(),
        f"resource {label} denied {resource} no rule covers the resource".split(),
    ]
    assert run("audit", "show", "--session", label, *state) == 0
    assert f"\nstands on tpm sha256:{digest}\n" in capsys.readouterr().out
