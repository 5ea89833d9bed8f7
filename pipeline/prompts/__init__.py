"""Prompts that say how strongly each of their parts counts: read, cut into chunks, and weighed."""
