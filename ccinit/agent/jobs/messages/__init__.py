"""The messages between PID 1 and its children, for the jobs of `ccinit.agent.jobs`.

They are values of `ccinit.formats.encoding.wire`, in modules of their own so that PID 1 can load
them without the code that produces them (TLS, netlink, ciphers), and each child, a fresh
interpreter, only those that it needs. The messages of a pull are in `ccinit.pull.messages`, those
of CONFIG and NET in `ccinit.boot`.
"""
