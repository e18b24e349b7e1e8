"""The work of `densedist label`: images in shards, by any number of processes; none is labeled twice or lost."""
