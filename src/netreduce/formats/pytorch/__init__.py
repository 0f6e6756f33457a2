"""PyTorch: state_dicts, exported programs (.pt2), and modules, both ways."""
