"""The owner's state directory: what is registered, stored and counted, who changed it, who could.

Its locks are `guest_owner.kbs.exclusion`: administration and the audit log need them, too.
"""
