"""The whole service against a model of it: the model, the service driven, and the rules."""
