"""What Prometheus is told: every metric declared once, and who records it."""
