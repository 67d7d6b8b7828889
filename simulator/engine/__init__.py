"""Clock, ledger and the simulated job. Knows virtual time; knows no files, terminals or processes."""
