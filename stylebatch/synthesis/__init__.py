"""The paper: VGG-19 responses, losses, optimisers. Pure torch."""
