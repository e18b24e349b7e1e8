"""Which distillation method suits a student: several trained alike, and what can be said of the difference."""
