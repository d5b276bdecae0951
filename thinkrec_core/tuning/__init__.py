"""What is searched over when an encoder is tuned."""
