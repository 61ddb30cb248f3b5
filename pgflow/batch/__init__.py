"""The batch job runner: a file of items, a function, all cores, and a run that survives what interrupts it."""

from pgflow.batch.batch import Batch
from pgflow.batch.options import BatchOptions

__all__ = ["Batch", "BatchOptions"]
