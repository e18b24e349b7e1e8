"""Which method and which values of its keys suit a student best in a given time: a search by Optuna."""
