"""Collaborative-filtering encoders: the frozen source of user and item vectors."""
