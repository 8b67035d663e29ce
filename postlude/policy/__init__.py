"""Decisions without effects: time and chance come in as arguments, a verdict goes out."""
