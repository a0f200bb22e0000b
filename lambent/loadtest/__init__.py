"""What `lambent loadtest` is made of: when calls are due, what makes them, what they came to."""
