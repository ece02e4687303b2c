"""The sealed log: the guest writes it for its owner, and the host carries it unread.

`stream` turns records into ciphertext, `ring` keeps it until the host has fetched it, `recent`
keeps the last records for the owner plane, and `log` is the one object that the rest of the guest
sees.
"""
