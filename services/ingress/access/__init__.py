"""Who is asking: what a route lets in, and the guard before all of them."""
