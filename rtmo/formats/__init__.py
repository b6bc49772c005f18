"""Annotation files of published datasets <-> typed records; no torch."""
