"""PowerShell functions."""
