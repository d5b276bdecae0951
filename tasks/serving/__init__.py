"""A bundle behind HTTP: one page, JSON, and metrics."""
