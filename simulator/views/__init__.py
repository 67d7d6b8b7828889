"""Results on a terminal. Pure functions from results to what rich prints; know no files and no clocks."""
