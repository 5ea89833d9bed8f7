"""What a component is: its contract, its folder on disk, its name and version, and what fits what."""
