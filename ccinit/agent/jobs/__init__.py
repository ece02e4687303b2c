"""What children do: one module for each role of `processes.roles` whose job is in no room.

Each `run` composes rooms for one purpose; the annotation of its first parameter is the request's
type. The messages between jobs and PID 1 are in `messages`.
"""
