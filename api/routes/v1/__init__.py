"""Version 1 of the management routes; nothing here is removed or changes its meaning."""
