"""The Trusted Computing Group's structures, and the event logs whose registers they speak of."""
