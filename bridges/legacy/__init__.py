"""The first Inferoxy's forms of requests and answers, for REST's `POST /infer` and its ZeroMQ clients.

docs/first_inferoxy.md says what those clients may rely on.
"""
