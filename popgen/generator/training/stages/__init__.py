"""The stages of training, in their order; each file makes one from the generator and the training data.

1. `vae`: the VAE learns to reconstruct weights and, through the decoded networks' loss on images, what they do.
2. `data_encoder`: the data set encoder is aligned with the frozen latents by a contrastive loss (as in D2NWG,
   arXiv 2402.18153) and by predicting them.
3. `prior`: the prior learns the distribution of the latents under both conditions.
4. `tuning`: data set encoder, prior and decoder together learn what networks generated from conditions do.
5. `descriptions`: a map from sentence embeddings to data set embeddings is fitted.
6. `restoring`: a low-rank residual for each architecture learns what the decoder leaves of its checkpoints.
7. `episodes`: directions from trained networks learn tasks of few images.
"""
