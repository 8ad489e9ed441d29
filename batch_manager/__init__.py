"""The batch manager: queues, batches, dispatch. What decides is pure; `broker` does the I/O."""
