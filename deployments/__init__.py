"""Presets as package data."""
