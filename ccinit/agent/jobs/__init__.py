"""What children do: one module for each role of `processes.roles` whose job is in no room.

Each `run` composes rooms for one purpose; its first parameter's annotation is the request's type.
What they and PID 1 say to each other is in `messages`.
"""
