"""What a resource has to hold for its guests, judged by their own rules before it is stored."""
