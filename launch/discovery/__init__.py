"""Which hosts a job may use now, and how many workers each takes: sources, memory of failures, last good answer."""
