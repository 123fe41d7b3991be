"""What survives a crash and the broker cannot hold: one SQLite file, one daemon."""

from streamfaas.store.database import Job, Store

__all__ = ["Job", "Store"]
