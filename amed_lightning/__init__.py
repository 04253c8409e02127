"""Distil a pre-trained diffusion model into a five-evaluation sampler, and prove it with FID and IS."""

__version__ = "0.2.0"
