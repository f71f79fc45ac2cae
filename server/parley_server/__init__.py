"""Parley: a stateless gRPC service that owns conversations."""
