"""Traces of others in, fault schedules out. Knows their formats; knows no simulation."""
