"""What formats are written in: strict JSON, TOML and CBOR, digests, values between processes."""
