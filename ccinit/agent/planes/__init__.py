"""What the owner and the workload may ask for; a child per connection reads the caller's bytes."""
