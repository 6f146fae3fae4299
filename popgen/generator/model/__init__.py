"""The generator's torch modules: VAE, latent priors, encoders of conditions, low-rank residuals."""
