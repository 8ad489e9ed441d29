"""`inferoxy infer`: files, folders, videos and tensors through a model; command.py is where it begins."""
