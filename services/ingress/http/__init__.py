"""What every face needs of HTTP: bodies, media types, streams, errors; nothing of pictures."""
