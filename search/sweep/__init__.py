"""Many searches, each of them a trial of Ray Tune."""
