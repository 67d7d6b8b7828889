"""What a run looks like: folds over its trace, a summary, and rich views of both."""
