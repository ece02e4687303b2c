"""`python -m measured_boot` is the command `measured-boot`."""

from measured_boot.entry import main

if __name__ == "__main__":
    raise SystemExit(main())
