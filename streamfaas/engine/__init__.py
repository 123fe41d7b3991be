"""Moves the data; owns every task on the path."""
