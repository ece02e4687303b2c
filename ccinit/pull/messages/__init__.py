"""The messages between PID 1 and the children of a pull, in modules by who reads them."""
