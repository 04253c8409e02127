"""Samplers for other programs: diffusers, ComfyUI, PyTorch alone."""
