"""What runs inside the workers. `launcher` loads it before any submission is in sight."""
