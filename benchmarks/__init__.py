"""What `scripts/bench.py` measures; every measurement returns the rows of one table."""
