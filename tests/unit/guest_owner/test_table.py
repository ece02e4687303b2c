"""Tables: whole ones, and those that are printed while they are read."""

from collections.abc import Iterator

from guest_owner.table import format_table, table_lines


def test_format_table_aligns_columns_without_trailing_space() -> None:
    text = format_table(("a", "long"), [("wide", "x"), ("", "")])
    assert text == "a     long\nwide  x\n"


def test_lines_of_a_table_are_those_of_the_whole() -> None:
    header, rows = ("a", "long"), [("wide", "x"), ("\x1b", "")]
    assert "\n".join(table_lines(header, rows)) == format_table(header, rows)
    assert not list(table_lines(header, ()))


def test_table_is_printed_before_all_of_it_is_read() -> None:
    read = []

    def rows() -> Iterator[tuple[str, str]]:
        for number in range(10_000):
            read.append(number)
            yield "x" * (number // 5000 + 4), str(number)

    lines = table_lines(("a", "n"), rows())
    assert (next(lines), next(lines)) == ("a     n", "xxxx  0")
    assert len(read) < 5000
    rest = list(lines)
    assert (len(rest), rest[-1]) == (9_999, "xxxxx  9999")
    # It is aligned once more where a row is wider, and stays so.
    assert [line.index(line.split()[1]) for line in rest] == sorted(
        line.index(line.split()[1]) for line in rest
    )


def test_columns_are_as_wide_as_any_row_above() -> None:
    rows = [("wide", 0), *[("x", number) for number in range(1, 3000)]]
    lines = [*table_lines(("a", "n"), ((cell, str(number)) for cell, number in rows))]
    assert lines[-1] == "x     2999"
