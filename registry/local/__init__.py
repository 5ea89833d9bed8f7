"""Copies of components on this machine."""
