"""What is wrong with a database, told without changing it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from streamfaas.store import schema


def damage(path: Path) -> str:
    """Empty where it is sound. Blocks, and wants its lock held; `StoreError` where the world, or
    a newer version, is to blame."""
    try:
        schema.check_header(path)
        with contextlib.closing(schema.connect(path, read_only=True)) as connection:
            # one of an older version is checked once it has been brought up to date
            if schema.check_origin(connection, path) == len(schema.MIGRATIONS):
                schema.check_content(connection)
    except schema.Damaged as told:
        return str(told)
    except sqlite3.Error as error:
        if schema.is_damage(error):
            return str(error)
        raise schema.store_error(path, error) from error
    return ""
