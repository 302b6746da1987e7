"""edgeseg: trained segmentation checkpoints in, deployable and proven artifacts out."""

__version__ = "0.1.0"
