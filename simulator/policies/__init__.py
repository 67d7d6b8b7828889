"""What a system does about a loss: one small class each, found by name in `registry`.

A policy decides; the engine books. To add one, write a class as in `policy`, and register it: see docs/simulator.md.
"""
