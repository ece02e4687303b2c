from tests.bench.marks import Mark, read_marks


def test_read_marks_takes_whole_lines_and_leaves_the_rest_for_later() -> None:
    marks: dict[str, Mark] = {}
    written = b"bench start\r\nsomething else\nbench listen 12 500 "
    seen = read_marks(marks, written, 0, 10.0)
    assert marks == {"start": Mark(milliseconds=10.0, numbers=())}
    assert read_marks(marks, written + b"450\n", seen, 20.0) == len(written) + 4
    assert marks["listen"] == Mark(milliseconds=20.0, numbers=(12.0, 500.0, 450.0))
    assert marks["start"].milliseconds == 10.0


def test_read_marks_finds_a_mark_behind_what_a_console_put_before_it() -> None:
    marks: dict[str, Mark] = {}
    read_marks(marks, b"[    1.0] x bench service 4.31\n", 0, 5.0)
    assert marks == {"service": Mark(milliseconds=5.0, numbers=(4.31,))}
