"""Values as the text of a claim, which also says if a token does not show the value."""

NOT_SHOWN = "not shown"


def show(value: bytes | int | str | None) -> str:
    """Return bytes in hex, a bool as on or off, other values as they are."""
    match value:
        case None:
            return NOT_SHOWN
        case bool():
            return "on" if value else "off"
        case bytes():
            return value.hex()
        case _:
            return str(value)
