"""Where a worker logs."""

from __future__ import annotations

import logging

from pgflow.process import output
from pgflow.worker import printed


def log_to_stderr(level: int) -> None:
    """Log this process's events on standard error, and what handlers print whatever the level. The pool's own
    complaints about a database that is away stay out: the parts that need it say what they do about it."""
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=level, stream=output.unhindered(2)
    )
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    printed.logger.setLevel(logging.INFO)
