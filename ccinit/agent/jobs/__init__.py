"""What children do: one module for each role of `ccinit.agent.roles`, run without its rights.

Each `run` composes rooms for one purpose; its first parameter's annotation is the request's type.
"""
