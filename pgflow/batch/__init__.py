"""The batch job runner: a function over many items, with a database's memory."""
