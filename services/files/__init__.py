"""Files that outlive their request: kept for a time, within a bound."""
