"""Readers of raw interaction formats, one file each."""
