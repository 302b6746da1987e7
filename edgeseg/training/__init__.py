"""Training PP-HumanSeg's ConnectNet with SCL; needs the extra `train` (torch). `edgeseg.training.trainer.train` does it."""
