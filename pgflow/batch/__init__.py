"""The batch job runner: a file of items, a function, all cores, and a run that survives what interrupts it."""
