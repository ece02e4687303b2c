"""Host tools for measured boot: what a boot consists of, and what it will measure."""
