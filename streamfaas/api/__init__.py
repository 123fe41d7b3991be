"""The doors: HTTP words to our words."""
