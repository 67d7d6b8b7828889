"""Starting runs: one module a launcher, and the supervision of what was started."""
