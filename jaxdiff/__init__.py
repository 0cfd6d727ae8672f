"""Diffusion and score-based generative models in JAX."""
