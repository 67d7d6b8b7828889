"""What fails, and when. Knows rates, causes and schedules; knows nothing of what a system does about them."""
