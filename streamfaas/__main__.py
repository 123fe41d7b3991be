"""`streamfaas` on the command line, and `python -m streamfaas`."""

from __future__ import annotations

from streamfaas.cli.main import main

if __name__ == "__main__":
    main()
