"""One module for each figure of `docs/benchmarks/README.md`; `make bench` runs them all."""
