"""What is in a `newc` archive, by a reader of our own."""


def parse(archive: bytes) -> list[tuple[str, list[int], bytes]]:
    """Return the name, the thirteen fields and the data of each member."""
    members = []
    offset = 0
    while offset < len(archive):
        assert archive[offset : offset + 6] == b"070701"
        header = archive[offset + 6 : offset + 110]
        fields = [int(header[start : start + 8], 16) for start in range(0, 104, 8)]
        name = archive[offset + 110 : offset + 110 + fields[11] - 1].decode()
        data_start = -(-(offset + 110 + fields[11]) // 4) * 4
        data = archive[data_start : data_start + fields[6]]
        offset = -(-(data_start + fields[6]) // 4) * 4
        members.append((name, fields, data))
    return members
