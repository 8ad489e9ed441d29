"""Where the registry is kept between runs. One module per store; base.py is the interface."""
