"""The owner's end of the owner plane: certificates, connection, and what a terminal needs."""
