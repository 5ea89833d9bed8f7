"""Timelines: what became of a request when, told from where the work was done."""
