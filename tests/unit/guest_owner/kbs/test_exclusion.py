"""Whoever changes what they have read is the only one who does: each change, by any command."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ccinit.errors import CcinitError, ConfigError
from ccinit.formats.encoding.strict_json import encode_base64url
from ccinit.formats.evidence.tee import Tee
from ccinit.formats.kbs.resource_uri import ResourceUri
from ccinit.formats.kbs.rollback_counter import CounterAdvance, counter_uri
from guest_owner.files import is_file, write_all_atomically
from guest_owner.kbs import exclusion
from guest_owner.kbs.administration.administrators import add_administrator
from guest_owner.kbs.exclusion import LOCK_FILE, changing, held_alone
from guest_owner.kbs.minting import IdentityOrder
from guest_owner.kbs.passports.key_set import IssuerKey, encode_key_set
from guest_owner.kbs.policy import Rule
from guest_owner.kbs.references.values import Profile
from guest_owner.kbs.server_certificate import renew_certificate
from guest_owner.kbs.state.counters import Counters
from guest_owner.kbs.state.policy_text import add_rule
from guest_owner.kbs.state.registrations import write_registrations
from guest_owner.kbs.state.store import Store
from guest_owner.plane.authority import read_authority
from tests.unit.guest_owner.command_line import run
from tests.unit.guest_owner.kbs.another_holder import held_by_another
from tests.unit.guest_owner.kbs.passports.passport_values import (
    AZURE_SIGNER,
    AZURE_TOML,
    SNP_TABLE,
)
from tests.unit.guest_owner.kbs.snp_values import REQUIREMENTS
from tests.unit.guest_owner.kbs.state.test_store import ADMIN_KEY, ATTESTATION_KEY, DOCUMENT, ROOT
from tests.unit.guest_owner.kbs.values import reference_set

URI = ResourceUri("ccinit", "shop", "key")
COUNTER = counter_uri("shop", "data")


def test_directory_is_held_by_one(tmp_path: Path) -> None:
    with held_alone(tmp_path, "another one has it"):
        with (
            pytest.raises(ConfigError, match="another one has it") as caught,
            held_alone(tmp_path, "another one has it"),
        ):
            pass
        assert caught.value.reason == "state.held"
    with held_alone(tmp_path, "nobody has it"):
        pass


def test_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def why_refused(hold: AbstractContextManager[None]) -> ConfigError:
        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", lock)
            with pytest.raises(ConfigError) as caught, hold:
                pass
        return caught.value

    for path, error in (
        (tmp_path, why_refused(held_alone(tmp_path, ""))),
        (tmp_path / LOCK_FILE, why_refused(changing(tmp_path))),
    ):
        assert error.reason == "state.lock"
        assert error.detail.startswith(f"cannot lock {path}: No locks available")
    with held_alone(tmp_path, ""), changing(tmp_path):
        pass


def test_state_may_be_named_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    link = tmp_path / "link"
    link.symlink_to("state")
    with held_alone(link, "nobody has it"), changing(link):
        pass
    with (
        held_alone(tmp_path / "state", "nobody has it"),
        pytest.raises(ConfigError) as caught,
        held_alone(link, "another one has it"),
    ):
        pass
    assert caught.value.reason == "state.held"


def test_lock_is_had_once_more_by_whoever_has_it_and_is_free_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with changing(tmp_path), changing(tmp_path), held_alone(tmp_path, "the server has it"):
            pass
    with pytest.raises(ConfigError) as caught, changing(tmp_path / "absent"):
        pass
    assert caught.value.reason == "state.missing"
    with pytest.raises(ConfigError) as caught, changing(tmp_path / ("n" * 256)):
        pass  # what cannot be looked at, on the other hand
    assert caught.value.reason == "state.read"


def advance(store: Store) -> None:
    Counters(store.root).advance(COUNTER, CounterAdvance(to=1, holder=b"1" * 16))


def add_issuer(store: Store, name: str) -> None:
    terms = (AZURE_TOML + SNP_TABLE).encode()
    store.add_issuer(name, terms, AZURE_SIGNER.key_set())


CHANGES: dict[str, Callable[[Store], object]] = {
    "policy": lambda store: store.write_policy(b"version = 1"),
    "edited policy": lambda store: store.edit_policy(lambda text: text),
    "reference": lambda store: store.add_reference(reference_set("a")),
    "ak": lambda store: store.add_attestation_key("node", ATTESTATION_KEY),
    "root": lambda store: store.add_root("amd", Tee.SNP, ROOT),
    "requirements": lambda store: store.set_requirements(Tee.SNP, REQUIREMENTS),
    "initdata": lambda store: store.add_initdata("shop", DOCUMENT),
    "resource": lambda store: store.write_resource(URI, b"secret"),
    "removed resource": lambda store: store.delete_resource(ResourceUri("a", "b", "c")),
    "issuer": lambda store: add_issuer(store, "azure"),
    "removed registration": lambda store: store.unregister("resources/a/b/c"),
    "order": lambda store: store.write_order(URI, IdentityOrder(3600)),
    "certificate": lambda store: renew_certificate(store.root, ()),
    "admin": lambda store: add_administrator(store.root, "ops", ADMIN_KEY),
    "counter": lambda store: Counters(store.root).begin(counter_uri("shop", "new")),
    "set counter": lambda store: Counters(store.root).set(COUNTER, 7),
    "moved counter": advance,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_waits_for_the_one_before(
    state: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Store], object]
) -> None:
    store = Store(state)
    store.write_resource(ResourceUri("a", "b", "c"), b"old")
    Counters(state).begin(COUNTER)
    monkeypatch.setattr(exclusion, "WAIT_SECONDS", 0.05)
    with held_by_another(state), pytest.raises(CcinitError) as caught:
        change(store)
    assert caught.value.reason == "state.busy"
    assert "try again" in caught.value.detail
    change(store)


class Meanwhile:
    """Does something at another place in the middle of a change, or just after it if it must."""

    def __init__(self, other: Callable[[], object]) -> None:
        self._thread = threading.Thread(target=other)
        self._begun = False

    def begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._thread.start()
            self._thread.join(0.3)

    def end(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def test_two_rules_at_once_are_two_rules(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def allow(pod: str) -> int:
        words = ("policy", "allow", "--state", state, f"ccinit/{pod}/*", "--initdata", pod)
        return run(*words)

    other = Meanwhile(lambda: allow("bank"))

    def add_slowly(text: str, rule: Rule) -> str:
        added = add_rule(text, rule)
        other.begin()
        return added

    monkeypatch.setattr("guest_owner.commands.policy.add_rule", add_slowly)
    assert allow("shop") == 0
    other.end()
    capsys.readouterr()
    rules = Store(state).read_policy().rules
    assert {str(rule.resources) for rule in rules} == {"ccinit/shop/*", "ccinit/bank/*"}


def test_one_measurement_never_gets_two_profiles(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, image = Store(state), reference_set("a")
    twin, refused = replace(image, name="b", profile=Profile.TEST), []

    def register_twin() -> None:
        try:
            Store(state).add_reference(twin)
        except CcinitError as error:
            refused.append(error.reason)

    other = Meanwhile(register_twin)

    def write_slowly(root: Path, files: Mapping[str, bytes]) -> None:
        other.begin()
        write_registrations(root, files)

    monkeypatch.setattr("guest_owner.kbs.state.store.write_registrations", write_slowly)
    store.add_reference(image)
    other.end()
    assert refused == ["reference.profile"]
    assert store.read_references().sets == (image,)


def test_one_issuer_never_gets_two_names(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def register_again() -> None:
        try:
            add_issuer(Store(state), "again")
        except CcinitError as error:
            refused.append(error.reason)

    other = Meanwhile(register_again)

    def encode_slowly(keys: tuple[IssuerKey, ...]) -> bytes:
        other.begin()
        return encode_key_set(keys)

    monkeypatch.setattr("guest_owner.kbs.state.store.encode_key_set", encode_slowly)
    add_issuer(Store(state), "azure")
    other.end()
    assert refused == ["issuer.exists"]
    assert [issuer.name for issuer in Store(state).read_issuers()] == ["azure"]


def test_counter_that_the_owner_sets_is_not_moved_from_its_old_value(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters, owner = Counters(state), Counters(state)
    counters.begin(COUNTER)
    other = Meanwhile(lambda: owner.set(COUNTER, 7))

    def encode_slowly(data: bytes) -> str:
        other.begin()
        return encode_base64url(data)

    monkeypatch.setattr("guest_owner.kbs.state.counters.encode_base64url", encode_slowly)
    counters.advance(COUNTER, CounterAdvance(to=1, holder=b"1" * 16))
    other.end()
    assert counters.read(COUNTER).value == 7


def test_counter_that_begins_twice_at_once_is_not_set_back(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = Counters(state)

    def begin_and_move() -> None:
        with suppress(CcinitError):
            Counters(state).begin(COUNTER)
        Counters(state).advance(COUNTER, CounterAdvance(to=1, holder=b"1" * 16))

    other = Meanwhile(begin_and_move)

    def look_slowly(path: Path) -> bool:
        found = is_file(path)
        other.begin()
        return found

    monkeypatch.setattr("guest_owner.kbs.state.counters.is_file", look_slowly)
    counters.begin(COUNTER)
    other.end()
    assert counters.read(COUNTER).value == 1


def test_authority_of_the_owner_plane_is_made_once(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    statuses: list[int] = []

    def register(pod: str) -> None:
        uri = f"kbs:///ccinit/{pod}/tls-identity"
        statuses.append(run("register", "tls-identity", "--state", state, uri))

    other = Meanwhile(lambda: register("bank"))

    def write_slowly(files: Mapping[Path, bytes], *, public: Collection[Path]) -> None:
        other.begin()
        write_all_atomically(files, public=public)

    monkeypatch.setattr("guest_owner.plane.authority.write_all_atomically", write_slowly)
    register("shop")
    other.end()
    assert statuses == [0, 0], capsys.readouterr().err
    made = read_authority(state)
    assert made.certificate.public_key() == made.key.public_key()
