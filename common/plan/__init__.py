"""What a run takes of cards that are not rented yet: memory, multiply-adds, and a lower bound of its time."""
