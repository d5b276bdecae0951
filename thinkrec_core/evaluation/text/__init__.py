"""Metrics of texts: overlap with a reference, meaning, diversity, named titles, and what a text argues for."""
