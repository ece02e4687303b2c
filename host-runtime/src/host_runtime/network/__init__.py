"""The interface of a network namespace, as a guest takes it over."""
