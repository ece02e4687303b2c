"""The demo: every party's own tools, real parts between them, and a host that attacks."""
