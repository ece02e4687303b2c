from guest_owner.table import format_table


def test_format_table_aligns_columns_without_trailing_space() -> None:
    text = format_table(("a", "long"), [("wide", "x"), ("", "")])
    assert text == "a     long\nwide  x\n"
