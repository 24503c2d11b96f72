"""Requests, results and volumes between a user interface and an engine, without torch."""
