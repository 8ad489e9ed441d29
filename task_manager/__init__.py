"""The task manager: what runs. Launches, places, watches, scales and retires instances."""
