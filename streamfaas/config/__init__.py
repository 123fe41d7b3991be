"""What is asked: text to frozen models, with a place for every word of it."""
