"""What is seen: typed signals, and who listens to them."""
