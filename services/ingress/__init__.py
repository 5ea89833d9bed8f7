"""The HTTP faces of the server, one file per face, and what they share."""
