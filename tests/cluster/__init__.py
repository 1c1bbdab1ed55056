"""Three real members: hand-over, catching up, large values, wrong peers."""
