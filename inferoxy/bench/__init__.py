"""Load on a server and what it answers: `inferoxy bench`, and the project's own benchmark suite.

plan.py says what to send, traffic.py makes bytes of it, pacing.py decides when, the *_load modules send, worker.py is
the process around them, runner.py the parent of several; report.py and plot.py show what was measured. suite/ runs the
workloads of docs/benchmarks.md beside their ceilings.
"""
