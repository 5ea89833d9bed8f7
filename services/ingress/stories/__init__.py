"""The face of what pictures tell of themselves: inspect one, and verify it."""
