"""First configs for a folder of data: what `densedist init` writes."""
