"""What each act costs. Every number carries its unit in its name and its source beside it."""
