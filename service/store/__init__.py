"""What is kept: rows in SQL, arrays and checkpoints in files. No rules live here."""
