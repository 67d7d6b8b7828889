"""Traces and published figures that are shipped with the simulator; see traces/NOTES.md for origins and licences."""
