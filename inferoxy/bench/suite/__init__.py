"""The project's own benchmark: the workloads of docs/benchmarks.md beside their ceilings.

workloads.py says what is measured, measure.py measures it once, __main__.py in turns; verdict.py compares, tables.py
writes it down, profiles.py looks where the time goes.
"""
