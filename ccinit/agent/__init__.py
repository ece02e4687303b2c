"""Composition of the rooms: the guest's state, its services, and the children that parse."""
