"""Two pods with one image and a careless rule, by which each may ask for what is the other's."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from guest_owner.kbs.state.store import Store
from tests.fakes.platforms.tpm_quote import extend
from tests.integration.attestation.test_kbs import Guest
from tests.integration.kbs.harness import Kbs, booted_tpm, make_state, run


def two_pods_state(root: Path, documents: Mapping[str, bytes], *register: str) -> Path:
    """A KBS's state with the documents of pods `shop` and `bank`, and what else to register."""
    state = make_state(root)
    for name, document in documents.items():
        Store(state).add_initdata(name, document)
    whose = (word for name in documents for word in ("--initdata", name))
    owner(state, "policy", "allow", "ccinit/*/*", *whose)
    owner(state, "register", *register)
    return state


def owner(state: Path, *words: str) -> None:
    run(*words, "--state", state)


def guest_with(kbs: Kbs, document: bytes) -> Guest:
    """A guest whose TPM says that it was started with this document."""
    tpm = booted_tpm()
    tpm.pcrs[8] = extend(bytes(32), hashlib.sha256(document).digest())
    return Guest(kbs, tpm, init_data=document.decode())
