"""Intel TDX: the measurement of a trust domain's build, and the registers of its boot."""
