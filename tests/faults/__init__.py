"""The rows of faults and bad inputs: what they are, which tests show them, and the report of it."""
