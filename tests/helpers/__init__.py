"""What several tests use: small models and data, the formulas in float64, processes, the commands."""
