"""Releases: the gate, and the aliases champion, challenger and previous with their history."""
