"""Prefect flows; the only importers of prefect."""
