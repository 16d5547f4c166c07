"""Kubernetes follows the plan: a gate controller and an extender. The official client is imported only where it is used."""
