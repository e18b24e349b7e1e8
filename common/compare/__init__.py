"""Compare distillation methods on one student, trained alike, and say what the difference allows to conclude."""
