"""Predicted speeds as the kinds take them: of jobs, of pairs that share a device, of devices on which little was measured."""
