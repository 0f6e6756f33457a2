"""What a network is worth and what it costs: accuracy, size, packed bytes, seconds."""
