"""From a typed request to its pictures: admission, pins, the walk, its events."""
