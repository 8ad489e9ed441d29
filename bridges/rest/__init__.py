"""The REST bridge: pictures and the Open Inference Protocol over HTTP."""
