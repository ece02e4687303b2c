"""What goes beside built images: reference values, bill of materials, provenance, signature."""
