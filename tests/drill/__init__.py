"""Failure drills: each breaks a real stack under real load and checks every single answer. `python -m tests.drill`."""
