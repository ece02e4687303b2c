"""The workload API towards containers: HTTP on one connection, typed questions to PID 1."""
