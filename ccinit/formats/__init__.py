"""Pure codecs: bytes become frozen values here, and nothing here can do input or output.

Each module has `parse_…(data)` which raises only `FormatError` (or its `LimitExceededError`), and
encoders where one of the four parties writes the format. Host, owner and builder tools share this
package with the guest, so that each format is parsed in one place.
"""
