"""What of a bundle is to be live and what is: plans, the record, and the steps of commands between the two."""
