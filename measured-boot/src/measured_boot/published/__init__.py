"""Predictions in the forms that verifiers and owners take, and the signature over them."""
