"""`popgen merge`: the experts and what is known about them, the images, and the job."""
