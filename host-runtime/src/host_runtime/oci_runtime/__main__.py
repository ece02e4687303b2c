"""`python -m host_runtime.oci_runtime` is the command `ccinit-runtime`."""

from host_runtime.oci_runtime.entry import main

if __name__ == "__main__":
    raise SystemExit(main())
