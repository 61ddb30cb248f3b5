"""Process tools that the executor and the pool stand on: tree kill, stack dump, usage, death card."""
