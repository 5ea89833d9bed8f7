"""`python -m registry`: one file for each group of commands."""
