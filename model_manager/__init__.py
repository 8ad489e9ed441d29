"""The model manager: what may run. The registry, models.yaml and the admin API."""
