"""Ways to start and end instances, behind the one interface of `base.Launcher`."""
