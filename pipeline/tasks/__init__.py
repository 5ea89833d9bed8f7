"""What can be asked for: the tasks, which a bundle's contracts allow, and the page of them."""
