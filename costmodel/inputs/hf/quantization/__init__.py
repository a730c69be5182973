"""How a checkpoint stores its weights, read from the quantisation that its files state."""
