"""Parts of `benchmarks/flow.py`: flow methods side by side, each in its own environment."""
