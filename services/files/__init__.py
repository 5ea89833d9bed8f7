"""Files that outlive their request: kept on disk for a time, within a bound."""
