"""Would more images help, and does it hold elsewhere?"""
