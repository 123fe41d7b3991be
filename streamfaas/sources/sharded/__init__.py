"""Sharded logs, by polling: one machine, and a dialect for each service that keeps such logs."""
