"""The story of a picture: what made it, written into its file and read from files, others' among them."""
