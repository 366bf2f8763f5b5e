"""One module for each figure of `docs/benchmarks.md`; `make bench` runs them all."""
