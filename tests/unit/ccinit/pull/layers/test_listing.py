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


def test_directories_go_to_the_part_that_has_fewest_names() -> None:
    listing = Listing()
    entered = [listing.enter(b"%d" % names, names).position for names in (1, 4, 2, 0, 3, 1)]
    assert entered == [0, 1, 0, 0, 0, 1]
    assert listing.records == 1 + 11


def test_record_changes_the_digest_of_its_own_part_only() -> None:
    empty, listing = Listing(), Listing()
    empty.enter(b"", 1)
    part = listing.enter(b"", 1)
    part.whiteout(b"a")
    own, other = part.position, 1 - part.position
    assert listing.digests()[own] != empty.digests()[own]
    assert listing.digests()[other] == empty.digests()[other]


def test_names_of_a_directory_change_the_digests_of_all_parts() -> None:
    digests = set()
    for path, names in ((b"a", 1), (b"a", 2), (b"b", 1)):
        listing = Listing()
        listing.enter(path, names)
        digests |= set(listing.digests())
    assert len(digests) == 3
