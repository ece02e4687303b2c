"""The KBS on the wire: sockets, TLS 1.3, HTTP/1.1, paths and bodies, under caps and deadlines."""
