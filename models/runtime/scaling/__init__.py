"""Laws of data-parallel training on more GPUs than were measured, and what they are compared with."""
