from guest_owner.table import format_table, printable


def test_format_table_aligns_columns_without_trailing_space() -> None:
    text = format_table(("a", "long"), [("wide", "x"), ("", "")])
    assert text == "a     long\nwide  x\n"


def test_printable_replaces_what_moves_a_terminal() -> None:
    assert printable("a\x1b[2J\nb\r\u202e\x07é") == "a?[2J?b???é"
