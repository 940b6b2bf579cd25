"""What a run is: its states, its events, who may change it, and what its process does."""
