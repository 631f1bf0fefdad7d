"""What this app brings along for other packages; each module is loaded only beside its package."""
