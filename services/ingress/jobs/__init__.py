"""The face of jobs, which are drawn while nobody waits."""
