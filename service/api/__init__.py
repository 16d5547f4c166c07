"""The HTTP API: what ``service.app`` puts together."""
