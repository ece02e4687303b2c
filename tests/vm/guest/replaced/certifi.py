"""Stands in for certifi, as a module of that name does in the real image: no public roots."""
