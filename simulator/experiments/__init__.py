"""Many runs and what they say: Monte Carlo, the vectorised path, comparison, planning. Knows no files."""
