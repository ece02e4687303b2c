"""`python -m guest_owner` is the command `guest-owner`."""

from guest_owner.entry import main

if __name__ == "__main__":
    raise SystemExit(main())
