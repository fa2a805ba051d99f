"""What every training script shares.

Start at `run.py`. Only trainer, optimizers, augment, muon, rendezvous and distributed need torch.
"""
