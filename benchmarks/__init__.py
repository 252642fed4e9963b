"""Benchmarks of cyconv: asv suites (bench_*.py) and compare.py, which measures cyconv beside its peers in one run."""
