from guest_owner.kbs.notices import PAUSE_SECONDS, Notices


def test_flood_of_one_kind_is_one_line_a_minute_and_hides_no_other() -> None:
    lines: list[str] = []
    now = 0.0
    notices = Notices(lines.append, lambda: now)
    for _ in range(1000):
        notices.tell("room", "full")
    notices.tell("audit.write", "cannot write")
    assert lines == ["full", "cannot write"]
    now = PAUSE_SECONDS
    notices.tell("room", "full")
    notices.tell("audit.write", "cannot write")
    assert lines[2:] == ["full (999 more of this kind since then)", "cannot write"]
    now = 2 * PAUSE_SECONDS
    notices.tell("room", "full")
    assert lines[4:] == ["full"]
