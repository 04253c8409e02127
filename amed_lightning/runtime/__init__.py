"""Processes, progress and provenance."""
