"""What runs inside the workers. `serve` loads it before any submission is in sight."""
