"""Metrics, floors, bootstrap intervals: what is measured on the test rows."""
