"""Whether a version may go live: tried before any request meets it."""
