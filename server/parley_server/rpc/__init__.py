"""The gRPC edge: protos stop here."""
