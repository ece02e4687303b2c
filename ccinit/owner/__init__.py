"""The owner plane's connection: TLS, calls and streams of one client, inside the child `owner`."""
