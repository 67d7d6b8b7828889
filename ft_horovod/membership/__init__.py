"""Who is alive: the protocol between the training loop and what finds out, and its backends."""
