"""What requests and answers look like, and what turns one into an order of ours."""
