"""Who makes a layer, and who waits for it."""

import hashlib
from collections.abc import Coroutine

import pytest

from ccinit.formats.encoding.digest import Digest, sha256_digest
from ccinit.pull.layer_store import LayerFiles, LayerStore, StoredLayer, chain_ids, claim_alone
from ccinit.pull.messages.layers import PassedLayer
from tests.fakes.machine.no_waiting import finish

A, B, C = (sha256_digest(name) for name in (b"a", b"b", b"c"))


def layer(name: str) -> StoredLayer:
    return StoredLayer(
        files=LayerFiles(tar=name, index=name, mount_point=name),
        passed=PassedLayer(listing=(A,), records=1, file_bytes=1, tar_bytes=1),
    )


def tars(waiting: Coroutine[object, object, tuple[StoredLayer, ...]]) -> tuple[str, ...]:
    """Of the layers that are there when the wait ends, which is at once."""
    return tuple(one.files.tar for one in finish(waiting))


def test_chain_id_is_image_specs() -> None:
    two = hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    three = hashlib.sha256(f"sha256:{two} {A}".encode()).hexdigest()
    assert chain_ids((A, B, A)) == (A, Digest(two), Digest(three))
    assert chain_ids(()) == ()


def test_first_image_makes_all_and_the_next_one_what_is_above() -> None:
    store = LayerStore()
    first, second = store.claim((A, B)), store.claim((A, B, C))
    assert tars(first.wait()) == ()
    first.fulfil([layer("a"), layer("b")])
    assert tars(second.wait()) == ("a", "b")
    second.fulfil([layer("c")])
    third = store.claim((A, B, C))
    assert tars(third.wait()) == ("a", "b", "c")
    third.fulfil([])


def test_layer_on_another_one_is_another_layer() -> None:
    store = LayerStore()
    store.claim((A, B)).fulfil([layer("a"), layer("b on a")])
    assert tars(store.claim((B,)).wait()) == ()
    third = store.claim((A, C, B))
    assert tars(third.wait()) == ("a",)
    third.fulfil([layer("c"), layer("b on c")])
    assert tars(store.claim((A, C, B)).wait()) == ("a", "c", "b on c")


def test_whoever_needs_a_layer_waits_until_it_is_there() -> None:
    store = LayerStore()
    first, second = store.claim((A,)), store.claim((A,))
    waiting = second.wait()
    assert waiting.send(None) is not None
    waiting.close()
    first.fulfil([layer("a")])
    assert tars(second.wait()) == ("a",)


def test_layers_claimed_alone_are_nobody_elses() -> None:
    store = LayerStore()
    store.claim((A,)).fulfil([layer("a")])
    assert tars(claim_alone((A, B)).wait()) == ()
    assert tars(store.claim((A, B)).wait()) == ("a",)


def test_layers_of_another_number_than_claimed_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="zip"):
        LayerStore().claim((A, B)).fulfil([layer("a")])
