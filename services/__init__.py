"""Ray Serve deployments, one file each, the HTTP faces before them, and the launcher."""
