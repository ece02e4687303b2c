import pytest

from ccinit.kernel import keyring
from ccinit.kernel.keyring import KeySerial, add_logon_key, remove_key
from ccinit.secret import Secret


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    seen: list[tuple[object, ...]] = []

    def syscall(*arguments: object, operation: str, target: str) -> int:
        seen.append(arguments)
        assert "secret" not in operation + target
        return 77

    monkeypatch.setattr(keyring, "syscall", syscall)
    return seen


def test_logon_key_goes_to_the_process_keyring(calls: list[tuple[object, ...]]) -> None:
    assert add_logon_key("ccinit:data", Secret(b"secret")) == 77
    assert calls == [(248, b"logon", b"ccinit:data", b"secret", 6, -2)]


def test_removed_key_is_revoked_then_unlinked(calls: list[tuple[object, ...]]) -> None:
    remove_key(KeySerial(77))
    assert calls == [(250, 3, 77), (250, 9, 77, -2)]
