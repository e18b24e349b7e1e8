"""Writers of data, a file for each library or form; none uses what the suite reads or writes with."""
