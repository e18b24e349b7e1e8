"""What other projects have built, read without trust: folders of transformers, and programs of a file."""
