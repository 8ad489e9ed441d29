"""The dispatcher under a clock of its own: what would have happened, known in milliseconds.

The decisions are those of the very BatchManager that serves; everything around it (bridge, instances, catalog) is
played. Pure but for scenario_file.py, which reads one.
"""
