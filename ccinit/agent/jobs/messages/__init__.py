"""What PID 1 and its children say to each other, for the jobs of `ccinit.agent.jobs`.

Values of `ccinit.formats.encoding.wire`, in modules of their own: PID 1 needs them, and none of
the code that makes them (TLS, netlink, ciphers); and a child needs its own only, since each is a
fresh interpreter. The types of a pull are `ccinit.pull.messages`'s.
"""
