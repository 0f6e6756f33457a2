"""Training of networks, in PyTorch (`torch`) and in Keras (`keras`)."""
