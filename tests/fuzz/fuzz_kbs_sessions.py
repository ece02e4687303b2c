"""Invariant: in whatever order guests attest and ask, sessions end, the KBS starts anew and its
owner withdraws, registers and replaces things, a resource is released exactly to a session or token
whose own attestation succeeded, and only while all that it stood on is registered.

Run as `python -m tests.fuzz.fuzz_kbs_sessions [SECONDS [SEED]]`.
"""

import json
import logging
import random
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ccinit.formats.kbs.resource_uri import parse_resource_uri
from guest_owner.kbs.broker import KeyBroker
from guest_owner.kbs.limits import Limits
from guest_owner.kbs.refusal import KbsRefusedError
from guest_owner.kbs.service import open_service
from guest_owner.kbs.state.store import Store
from guest_owner.plane.minting import mint_identity
from tests.fuzz.fuzz_kbs_service import AUTH, attestation, make_state
from tests.fuzz.trials import Trials, run

LIMITS = Limits(session_seconds=300)
URI = parse_resource_uri("kbs:///ccinit/shop/file-password")
OTHER = "ccinit/bank/pin"
KEPT = 6  # sessions and tokens that are tried again
STEPS = 25


@dataclass
class Known:
    """A session as its guest knows it."""

    cookie: str
    nonce: str
    ends: float
    state: str = "opened"


class Owner:
    """The state directory, and what is in it now."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.store = Store(state)
        kept = ("references/image-1.json", "initdata/shop.toml", "policy.toml")
        (key,) = (state / "attestation-keys").iterdir()
        self._content = {path: path.read_bytes() for path in (*(state / one for one in kept), key)}
        self.basis = [path for path in self._content if path.name != "policy.toml"]
        self.is_allowed = self.has_resource = True
        self.missing: set[Path] = set()

    def change(self, source: random.Random) -> None:
        """Withdraw something, or register it again as it was."""
        path = source.choice((*self._content, None))
        match path:
            case None:
                self.has_resource = not self.has_resource
                if self.has_resource:
                    self.store.write_resource(URI, b"another secret")
                else:
                    self.store.delete_resource(URI)
            case Path(name="policy.toml"):
                self.is_allowed = not self.is_allowed
                text = self._content[path]
                self.store.write_policy(text if self.is_allowed else b"version = 1\n")
            case _ if path in self.missing:
                path.write_bytes(self._content[path])
                self.missing.remove(path)
            case _:
                path.unlink()
                self.missing.add(path)

    def restore(self) -> None:
        """Register everything."""
        for path in tuple(self.missing):
            path.write_bytes(self._content[path])
        self.missing.clear()
        self.is_allowed = self.has_resource = True
        self.store.write_policy(self._content[self.store.policy_path])
        self.store.write_resource(URI, b"secret")


class World:
    """One KBS after another over the same state, and what its guests have of it."""

    def __init__(self, source: random.Random, owner: Owner) -> None:
        self.source = source
        self.owner = owner
        self.now = 1000.0
        self.sessions: list[Known] = []
        self.tokens: list[str] = []
        self.released = 0
        self._broker = self._open()

    def _open(self) -> KeyBroker:
        state = self.owner.state
        return open_service(state, LIMITS, partial(mint_identity, state), lambda: self.now).broker

    def step(self) -> None:
        """Let somebody do something."""
        match self.source.randrange(10):
            case 0:
                self.owner.change(self.source)
            case 1:
                self.now += self.source.choice((1, 149, 150, 301))
            case 2 if self.source.randrange(4) == 0:
                self._broker = self._open()
                for session in self.sessions:
                    session.state = "gone"
            case 3 | 4:
                self._begin()
            case 5 | 6 if self.sessions:
                self._attest(self.source.choice(self.sessions), self.source.choice(self.sessions))
            case _:
                self._ask()

    def _begin(self) -> None:
        session, reply = self._broker.authenticate(json.dumps(AUTH).encode())
        ends = self.now + LIMITS.session_seconds
        nonce = json.loads(reply)["nonce"]
        self.sessions.append(Known(cookie=session.cookie, nonce=nonce, ends=ends))
        del self.sessions[:-KEPT]

    def _attest(self, session: Known, other: Known) -> None:
        """Attest in a session, mostly by its own nonce."""
        named = session if self.source.randrange(4) else other
        body = json.dumps(attestation(named.nonce)).encode()
        may = session.state == "opened" and self.now < session.ends
        is_good = may and named.nonce == session.nonce and not self.owner.missing
        try:
            _, reply = self._broker.attest(session.cookie, body)
        except KbsRefusedError:
            assert not is_good
        else:
            assert is_good
            self.tokens.append(json.loads(reply)["token"])
            del self.tokens[:-KEPT]
        if may:  # the nonce is used up in any case
            session.state = "attested" if is_good else "gone"

    def _ask(self) -> None:
        """Ask for a resource by session, token, both or none."""
        source = self.source
        session = source.choice((None, *self.sessions))
        token = source.choice((None, *self.tokens))
        cookie = None if session is None else session.cookie
        is_live = session is not None and session.state == "attested" and self.now < session.ends
        path = source.choice((URI.path, URI.path, OTHER))
        is_good = (is_live or token is not None) and not self.owner.missing
        is_good = is_good and self.owner.is_allowed and self.owner.has_resource and path == URI.path
        try:
            reply = self._broker.resource(cookie, token, path)
        except KbsRefusedError:
            assert not is_good
        else:
            assert is_good
            assert json.loads(reply).keys() >= {"ciphertext", "tag"}
            self.released += 1


def main(seconds: float, seed: int) -> int:
    """Let guests and owners act for a while; return how many lives of a KBS."""
    trials = Trials(seconds, seed)
    logging.getLogger("guest_owner").setLevel(logging.CRITICAL)
    released = 0
    with tempfile.TemporaryDirectory() as folder:
        owner = Owner(make_state(Path(folder)))
        for source in trials:
            owner.restore()
            world = World(source, owner)
            for _ in range(STEPS):
                world.step()
            released += world.released
    trials.require(released, one_in=3)
    return trials.count


if __name__ == "__main__":
    run(main)
