"""Benchmarks. They compare costs within one run, and assert no absolute figure."""
