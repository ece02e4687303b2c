"""`python -m host_runtime` is the command `host-runtime`."""

from host_runtime.entry import main

if __name__ == "__main__":
    raise SystemExit(main())
