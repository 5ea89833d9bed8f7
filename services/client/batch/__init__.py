"""Many requests from a file, each drawn once however often the work is broken off."""
