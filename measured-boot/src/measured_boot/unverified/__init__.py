"""Arm CCA and IBM Secure Execution: values that nobody has compared with a platform."""
