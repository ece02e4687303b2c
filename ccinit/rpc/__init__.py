"""The host plane's server: who may connect, how much they may send, and what they get back."""
