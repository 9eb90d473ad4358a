"""Is the table sound?"""
