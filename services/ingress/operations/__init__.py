"""What operators look at: health, the rollout, and the web page."""
