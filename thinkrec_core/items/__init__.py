"""What items say about themselves."""
