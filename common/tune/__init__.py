"""Search by Optuna for the method and values of its keys that suit a student best in a given time."""
