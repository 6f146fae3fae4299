"""Many searches as trials of Ray Tune."""
