"""What runs in a worker of a Python function: loaded by path, never imported by the daemon."""
