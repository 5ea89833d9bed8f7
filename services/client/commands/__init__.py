"""`python -m services.client`: one file for each group of commands."""
