from ccinit.pull.layers.listing import Attributes, Listing, ListingPart

A = Attributes(0o644, 0, 0, 5)


def digest(*steps: tuple[str, tuple[object, ...]]) -> str:
    part = ListingPart(0)
    for method, arguments in steps:
        getattr(part, method)(*arguments)
    return str(part.digest())


def test_listing_differs_by_every_detail() -> None:
    variants = [
        digest(("file", (b"a", A, 1, 512, b"a"))),
        digest(("file", (b"b", A, 1, 512, b"a"))),
        digest(("file", (b"a", A, 2, 512, b"a"))),
        digest(("file", (b"a", A, 1, 1024, b"a"))),
        digest(("file", (b"a", A, 1, 512, b"b"))),
        digest(("file", (b"a", Attributes(0o645, 0, 0, 5), 1, 512, b"a"))),
        digest(("file", (b"a", Attributes(0o644, 1, 0, 5), 1, 512, b"a"))),
        digest(("file", (b"a", Attributes(0o644, 0, 1, 5), 1, 512, b"a"))),
        digest(("file", (b"a", Attributes(0o644, 0, 0, 6), 1, 512, b"a"))),
        digest(("file", (b"a", Attributes(0o644, 0, 0, 5, ((b"user.a", b""),)), 1, 512, b"a"))),
        digest(("file", (b"a", Attributes(0o644, 0, 0, 5, ((b"user.a", b"1"),)), 1, 512, b"a"))),
        digest(("symlink", (b"a", A, b"t", b"a"))),
        digest(("symlink", (b"a", A, b"u", b"a"))),
        digest(("directory", (b"a", A))),
        digest(("whiteout", (b"a",))),
        digest(),
    ]
    assert len(set(variants)) == len(variants)


def test_listing_of_equal_records_is_equal() -> None:
    steps = (("directory", (b"", A)), ("whiteout", (b"a",)))
    assert digest(*steps) == digest(*steps)
    assert digest(*steps) != digest(*reversed(steps))


def test_name_that_looks_like_a_record_is_no_record() -> None:
    assert digest(("whiteout", (b"a\n2\0w\0b",))) != digest(
        ("whiteout", (b"a",)), ("whiteout", (b"b",))
    )


def test_directories_go_to_the_part_that_has_fewest_records() -> None:
    listing = Listing()
    dealt = []
    for names in (1, 4, 2, 0, 3, 1):
        part = listing.next_part
        part.expect(names)
        dealt.append(part.position)
    assert dealt == [0, 1, 0, 0, 0, 1]
    assert listing.records == 11


def test_record_changes_the_digest_of_its_own_part_only() -> None:
    listing, empty = Listing(), Listing().digests()
    part = listing.next_part
    part.expect(1)
    part.whiteout(b"a")
    assert listing.digests()[part.position] != empty[part.position]
    assert listing.digests()[1 - part.position] == empty[1 - part.position]
