"""Pure codecs: bytes become frozen values here, and nothing here can do input or output.

Each module has `parse_…(data)`, which raises `FormatError` (or its `LimitExceededError`) when bytes
are not of its form, and encoders for what one of the four parties writes. Host, owner and builder
tools share this package with the guest, so each format is parsed in one place.
"""
