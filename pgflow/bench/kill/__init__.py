"""The suite kill: how late kills are, and how soon deaths are noticed."""
